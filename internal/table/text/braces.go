package text

import (
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/table"
)

// Unbrace takes the braces and the white space inside them off "{ text }".
// The errors are extpar(3)'s of Postfix.
func Unbrace(s string) (string, error) {
	if !strings.HasPrefix(s, "{") {
		return "", fmt.Errorf("no '{' at start of text in \"%s\"", s)
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 {
			if strings.Trim(s[i+1:], space) != "" {
				return "", fmt.Errorf("syntax error after '}' in \"%s\"", s)
			}
			return strings.Trim(s[1:i], space), nil
		}
	}
	return "", fmt.Errorf("missing '}' in \"%s\"", s)
}

// Braced divides "{ {one}, {two} }" into its texts.
func Braced(s string) ([]string, error) {
	inside, err := Unbrace(s)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, item := range table.SplitList(inside) {
		text, err := Unbrace(item)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// nameValue divides "name = value".
func nameValue(s string) (name, value string, err error) {
	s = strings.TrimLeft(s, space)
	if s == "" {
		return "", "", errors.New("missing attribute name")
	}
	end := strings.IndexAny(s, space+"=")
	if end < 0 {
		end = len(s)
	}
	name = s[:end]
	value, ok := strings.CutPrefix(strings.TrimLeft(s[end:], space), "=")
	if !ok {
		return "", "", errors.New("missing '=' after attribute name")
	}
	return name, strings.Trim(value, space), nil
}
