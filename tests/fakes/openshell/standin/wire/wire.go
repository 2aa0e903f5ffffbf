// Package wire is the gRPC of the stand-ins: structs whose fields carry their protobuf number in a tag `pb:"N"`, encoded
// as protobuf without generated code, and the descriptions of methods that grpc-go serves.
package wire

import (
	"fmt"
	"reflect"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Codec is grpc-go's codec under the name that "application/grpc" stands for.
type Codec struct{}

func (Codec) Name() string { return "proto" }

func (Codec) Marshal(v any) ([]byte, error) {
	return appendStruct(nil, reflect.ValueOf(v).Elem()), nil
}

func (Codec) Unmarshal(data []byte, v any) error { return readStruct(data, reflect.ValueOf(v).Elem()) }

func number(field reflect.StructField) protowire.Number {
	n, err := strconv.Atoi(field.Tag.Get("pb"))
	if err != nil {
		panic(fmt.Sprintf("field %s has no number", field.Name))
	}
	return protowire.Number(n)
}

func appendStruct(out []byte, v reflect.Value) []byte {
	for i := range v.NumField() {
		out = appendField(out, number(v.Type().Field(i)), v.Field(i))
	}
	return out
}

func appendField(out []byte, n protowire.Number, v reflect.Value) []byte {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 {
		for i := range v.Len() {
			out = appendOne(out, n, v.Index(i))
		}
		return out
	}
	if v.IsZero() {
		return out
	}
	return appendOne(out, n, v)
}

// appendOne writes a value even when it is empty, as elements of lists need it.
func appendOne(out []byte, n protowire.Number, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		return protowire.AppendVarint(protowire.AppendTag(out, n, protowire.VarintType), protowire.EncodeBool(v.Bool()))
	case reflect.Int32, reflect.Int64:
		return protowire.AppendVarint(protowire.AppendTag(out, n, protowire.VarintType), uint64(v.Int()))
	case reflect.Pointer:
		return appendOne(out, n, v.Elem())
	case reflect.Struct:
		return protowire.AppendBytes(protowire.AppendTag(out, n, protowire.BytesType), appendStruct(nil, v))
	case reflect.String:
		return protowire.AppendString(protowire.AppendTag(out, n, protowire.BytesType), v.String())
	case reflect.Slice:
		return protowire.AppendBytes(protowire.AppendTag(out, n, protowire.BytesType), v.Bytes())
	}
	panic("no encoding for " + v.Type().String())
}

func readStruct(data []byte, v reflect.Value) error {
	for len(data) > 0 {
		n, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return protowire.ParseError(size)
		}
		data = data[size:]
		size = protowire.ConsumeFieldValue(n, kind, data)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := readField(n, kind, data[:size], v); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}

// readField leaves out what the struct does not know, as protobuf does.
func readField(n protowire.Number, kind protowire.Type, value []byte, v reflect.Value) error {
	for i := range v.NumField() {
		if number(v.Type().Field(i)) == n {
			return readInto(v.Field(i), kind, value)
		}
	}
	return nil
}

func readInto(field reflect.Value, kind protowire.Type, value []byte) error {
	if field.Kind() == reflect.Slice && field.Type().Elem().Kind() != reflect.Uint8 {
		element := reflect.New(field.Type().Elem()).Elem()
		if err := readInto(element, kind, value); err != nil {
			return err
		}
		field.Set(reflect.Append(field, element))
		return nil
	}
	if kind == protowire.VarintType {
		number, _ := protowire.ConsumeVarint(value)
		switch field.Kind() {
		case reflect.Bool:
			field.SetBool(number != 0)
		case reflect.Int32, reflect.Int64:
			field.SetInt(int64(number))
		default:
			return fmt.Errorf("a number where %s belongs", field.Type())
		}
		return nil
	}
	if kind != protowire.BytesType {
		return fmt.Errorf("wire type %d where %s belongs", kind, field.Type())
	}
	bytes, _ := protowire.ConsumeBytes(value)
	switch field.Kind() {
	case reflect.String:
		field.SetString(string(bytes))
	case reflect.Slice:
		field.SetBytes(append([]byte{}, bytes...))
	case reflect.Struct:
		return readStruct(bytes, field)
	case reflect.Pointer:
		if field.IsNil() {
			field.Set(reflect.New(field.Type().Elem()))
		}
		return readStruct(bytes, field.Elem())
	default:
		return fmt.Errorf("bytes where %s belongs", field.Type())
	}
	return nil
}
