package main

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gateway.local/standin/wire"
)

const (
	supervisorDir = "/opt/openshell/bin"
	supervisorBin = supervisorDir + "/openshell-sandbox"
	clientTLSDir  = "/etc/openshell-tls/client"
	tokenDir      = "/var/run/secrets/openshell"
	workspace     = "/sandbox"
)

type object = map[string]any

// sandboxObject is the Sandbox of a request: one container that starts by the supervisor, which comes from another image.
func sandboxObject(s driverSettings, made record, request *wire.CreateRequest) *unstructured.Unstructured {
	labels := object{"openshell.ai/managed-by": "openshell", idLabel: made.ID}
	size := s.WorkspaceSize
	if size == "" {
		size = "1Gi"
	}
	return &unstructured.Unstructured{Object: object{
		"apiVersion": "agents.x-k8s.io/v1beta1",
		"kind":       "Sandbox",
		"metadata":   object{"name": workspacePrefix + made.Name, "labels": labels},
		"spec": object{
			"podTemplate": object{
				"metadata": object{"labels": labels},
				"spec":     podSpec(s, request),
			},
			"volumeClaimTemplates": []any{object{
				"metadata": object{"name": "workspace"},
				"spec": object{
					"accessModes": []any{"ReadWriteOnce"},
					"resources":   object{"requests": object{"storage": size}},
				},
			}},
		},
	}}
}

func podSpec(s driverSettings, request *wire.CreateRequest) object {
	image := request.Image
	if image == "" {
		image = s.SandboxImage
	}
	command := []any{supervisorBin}
	for _, word := range request.Command {
		command = append(command, word)
	}
	supervisor := object{"name": "supervisor"}
	spec := object{
		"restartPolicy":                 "Never",
		"serviceAccountName":            s.ServiceAccount,
		"automountServiceAccountToken":  false,
		"terminationGracePeriodSeconds": int64(5),
		"securityContext":               object{"fsGroup": int64(1000)},
		"containers": []any{object{
			"name":            "agent",
			"image":           image,
			"imagePullPolicy": s.SandboxImagePullPolicy,
			"command":         command,
			"env": []any{
				object{"name": "OPENSHELL_ENDPOINT", "value": s.GatewayEndpoint},
				object{"name": "OPENSHELL_TLS_DIR", "value": clientTLSDir},
				object{"name": "OPENSHELL_K8S_SA_TOKEN_FILE", "value": tokenDir + "/token"},
			},
			"securityContext": object{
				"runAsUser":       int64(0),
				"capabilities":    object{"add": []any{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"}},
				"appArmorProfile": object{"type": "Unconfined"},
			},
			"volumeMounts": []any{
				object{"name": "supervisor", "mountPath": supervisorDir, "readOnly": true},
				object{"name": "client-tls", "mountPath": clientTLSDir, "readOnly": true},
				object{"name": "gateway-token", "mountPath": tokenDir, "readOnly": true},
				object{"name": "workspace", "mountPath": workspace},
			},
		}},
	}
	if s.SideloadMethod == "init-container" {
		supervisor["emptyDir"] = object{}
		spec["initContainers"] = []any{object{
			"name": "supervisor", "image": s.SupervisorImage, "imagePullPolicy": s.SupervisorPullPolicy,
			"args":         []any{"--copy-self", supervisorBin},
			"volumeMounts": []any{object{"name": "supervisor", "mountPath": supervisorDir}},
		}}
	} else {
		supervisor["image"] = object{"reference": s.SupervisorImage, "pullPolicy": s.SupervisorPullPolicy}
	}
	spec["volumes"] = []any{
		supervisor,
		object{"name": "client-tls", "secret": object{"secretName": s.ClientTLSSecret, "defaultMode": int64(0o400)}},
		object{"name": "gateway-token", "projected": object{
			"defaultMode": int64(0o400),
			"sources": []any{object{"serviceAccountToken": object{
				"path": "token", "audience": wire.TokenAudience, "expirationSeconds": int64(3600),
			}}},
		}},
	}
	if s.HostGatewayIP != "" {
		names := []any{"host.openshell.internal", "host.docker.internal"}
		spec["hostAliases"] = []any{object{"ip": s.HostGatewayIP, "hostnames": names}}
	}
	return spec
}
