package table

import "strings"

// listSeparators is what Postfix calls CHARS_COMMA_SP.
const listSeparators = ", \t\r\n"

// SplitList divides a list at commas and white space, but not inside braces:
// "hash:/a, inline:{ {k = v} }" has two items. A closing brace that is missing
// makes the rest one item.
func SplitList(text string) []string {
	var items []string
	for {
		text = strings.TrimLeft(text, listSeparators)
		if text == "" {
			return items
		}
		end := itemEnd(text)
		items = append(items, text[:end])
		text = text[end:]
	}
}

func itemEnd(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '{':
			depth++
		case c == '}':
			depth--
		case depth <= 0 && strings.IndexByte(listSeparators, c) >= 0:
			return i
		}
	}
	return len(text)
}
