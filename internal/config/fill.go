package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"posthaste/internal/config/params"
)

// Fill sets the fields of the struct that dst points to from their tags:
//
//	Limit int    `param:"smtpd_recipient_limit"`
//	Text  string `param:"bounce_template_file,raw"` // unexpanded
//
// Kinds are string, []string (words), int, int64, bool, float64 and
// time.Duration. Fields without tag are left alone, embedded and plain struct
// fields without tag are filled, too. The error is a *ParamError; a tag that
// names no parameter, or a kind that does not fit, is an error as well.
func (v *View) Fill(dst any) error {
	return v.fill(dst, func(name string) string { return name })
}

// FillAs is Fill with parameters of another prefix, where they exist:
// FillAs(dst, "smtp_", "lmtp_") reads lmtp_tls_policy_maps for
// `param:"smtp_tls_policy_maps"`, and lmtp_lhlo_name for smtp_helo_name.
func (v *View) FillAs(dst any, from, to string) error {
	return v.fill(dst, func(name string) string {
		if from == "smtp_" && to == "lmtp_" {
			return v.snapshot.catalogue.ForLMTP(name)
		}
		if rest, ok := strings.CutPrefix(name, from); ok && v.Known(to+rest) {
			return to + rest
		}
		return name
	})
}

// FillTransport sets the fields with a tag such as
// `transport:"destination_concurrency_limit"` from
// NAME_destination_concurrency_limit, which falls back to
// default_destination_concurrency_limit.
func (v *View) FillTransport(name string, dst any) error {
	return v.walk(dst, func(field reflect.StructField, value reflect.Value) error {
		suffix, ok := field.Tag.Lookup("transport")
		if !ok {
			return nil
		}
		full := name + "_" + suffix
		if !v.Known(full) {
			full = params.TransportFallback(suffix)
		}
		if !v.Known(full) {
			return fmt.Errorf("config: field %s: no parameter %s", field.Name, full)
		}
		return v.set(value, full, false)
	})
}

func (v *View) fill(dst any, rename func(string) string) error {
	return v.walk(dst, func(field reflect.StructField, value reflect.Value) error {
		tag, ok := field.Tag.Lookup("param")
		if !ok {
			return nil
		}
		name, option, _ := strings.Cut(tag, ",")
		name = rename(name)
		p, known := v.snapshot.Param(name)
		if !known && !v.Known(name) {
			return fmt.Errorf("config: field %s: no parameter %s", field.Name, name)
		}
		return v.set(value, name, option == "raw" || known && p.Kind == params.Raw)
	})
}

type visitField func(reflect.StructField, reflect.Value) error

func (v *View) walk(dst any, visit visitField) error {
	pointer := reflect.ValueOf(dst)
	if pointer.Kind() != reflect.Pointer || pointer.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("config: cannot fill a %T", dst)
	}
	return v.walkStruct(pointer.Elem(), visit)
}

func (v *View) walkStruct(at reflect.Value, visit visitField) error {
	kind := at.Type()
	for i := 0; i < kind.NumField(); i++ {
		field := kind.Field(i)
		if !field.IsExported() {
			continue
		}
		if field.Tag == "" && field.Type.Kind() == reflect.Struct {
			if err := v.walkStruct(at.Field(i), visit); err != nil {
				return err
			}
			continue
		}
		if err := visit(field, at.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// set gives a field the value of a parameter.
func (v *View) set(field reflect.Value, name string, raw bool) error {
	if _, ok := field.Interface().(time.Duration); ok {
		d, err := v.Duration(name)
		field.SetInt(int64(d))
		return err
	}
	switch field.Kind() {
	case reflect.String:
		text, err := v.text(name, raw)
		field.SetString(text)
		return err
	case reflect.Bool:
		b, err := v.Bool(name)
		field.SetBool(b)
		return err
	case reflect.Int:
		n, err := v.Int(name)
		field.SetInt(int64(n))
		return err
	case reflect.Int64:
		n, err := v.Int64(name)
		field.SetInt(n)
		return err
	case reflect.Float64:
		f, err := v.Float(name)
		field.SetFloat(f)
		return err
	case reflect.Slice:
		if field.Type().Elem().Kind() == reflect.String {
			words, err := v.Words(name)
			field.Set(reflect.ValueOf(words))
			return err
		}
	}
	return fmt.Errorf("config: parameter %s: cannot fill a %s", name, field.Type())
}

// text is a string within its length limits.
func (v *View) text(name string, raw bool) (string, error) {
	if raw {
		return v.Raw(name), nil
	}
	text, err := v.String(name)
	if err != nil {
		return "", err
	}
	if p, ok := v.param(name); ok && p.Kind == params.String && int64(len(text)) < p.Min {
		return "", v.fail(name, "bad string length %d < %d: %s = %s", len(text), p.Min, name, text)
	}
	return text, nil
}
