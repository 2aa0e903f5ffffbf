package main

import "encoding/json"

// descriptor is one entry of a manifest or index.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

func (p platform) String() string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// document is a manifest or an index; which one, its fields tell.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

func readManifest(content []byte) (*document, error) {
	var found document
	if err := json.Unmarshal(content, &found); err != nil {
		return nil, fail("layout", "its manifest cannot be read: %v", err)
	}
	return &found, nil
}

// blobs lists what an image's manifest refers to.
func (d *document) blobs() []descriptor { return append([]descriptor{d.Config}, d.Layers...) }
