package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func TestHealthIsTheBytesOfTheRealGateway(t *testing.T) {
	got, _ := Codec{}.Marshal(&HealthAnswer{Status: Healthy, Version: "0.0.0"})
	if want := []byte("\x08\x01\x12\x050.0.0"); !bytes.Equal(got, want) {
		t.Fatalf("% x instead of % x", got, want)
	}
}

func TestMessagesComeBackWhole(t *testing.T) {
	for _, message := range []any{
		&SandboxList{Sandboxes: []Sandbox{{ID: "1", Name: "a"}, {}, {Phase: "Ready"}}},
		&ExecEvent{Stdout: []byte("x\n"), Exit: &ExecExit{Code: 7}},
		&CreateRequest{Name: "n", Command: []string{"sh", "", "-c"}},
		&DeleteAnswer{Deleted: true},
	} {
		data, err := Codec{}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		read := reflect.New(reflect.TypeOf(message).Elem()).Interface()
		if err := (Codec{}).Unmarshal(data, read); err != nil || !reflect.DeepEqual(message, read) {
			t.Errorf("%+v became %+v (%v)", message, read, err)
		}
	}
}

func TestUnknownFieldsAreLeftOutAndBadBytesRefused(t *testing.T) {
	data, _ := Codec{}.Marshal(&Sandbox{ID: "1", Name: "a", Phase: "Ready"})
	var name NameRequest
	if err := (Codec{}).Unmarshal(data, &name); err != nil || name.Name != "1" {
		t.Fatal(name, err)
	}
	if err := (Codec{}).Unmarshal([]byte{0x0a, 9, 'x'}, &name); err == nil {
		t.Fatal("a cut field is taken")
	}
}
