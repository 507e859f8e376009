package mastercf

import (
	"fmt"
	"strings"

	"posthaste/internal/config/maincf"
)

// splitWords cuts a line at white space that is not within braces.
func splitWords(text string) []string {
	var words []string
	start, level := -1, 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		separates := level == 0 && strings.IndexByte(blanks, c) >= 0
		switch {
		case separates && start >= 0:
			words = append(words, text[start:i])
			start = -1
		case !separates && start < 0:
			start = i
		}
		switch {
		case c == '{':
			level++
		case c == '}' && level > 0:
			level--
		}
	}
	if start >= 0 {
		words = append(words, text[start:])
	}
	return words
}

// SetArgs replaces the arguments by words as written in master.cf.
func (s *Service) SetArgs(words []string) {
	s.Args, s.Options, s.Warnings = nil, nil, nil
	rest := s.options(words)
	for _, word := range rest {
		s.Args = append(s.Args, s.unbrace(word))
	}
}

// options takes the options in front of words and returns what follows.
func (s *Service) options(words []string) []string {
	for len(words) > 0 && isOption(words[0]) {
		option := words[0]
		words = words[1:]
		if o := strings.IndexByte(option[1:], 'o'); o > 0 {
			s.Args = append(s.Args, option[:o+1]) // "-vo" is "-v -o"
			option = "-" + option[o+1:]
		}
		if option[1] != 'o' {
			s.Args = append(s.Args, option)
			continue
		}
		value := option[2:]
		s.Args = append(s.Args, "-o")
		if value == "" {
			if len(words) == 0 {
				return nil
			}
			value, words = words[0], words[1:]
		}
		s.option(value)
	}
	return words
}

func isOption(word string) bool {
	return len(word) > 1 && word[0] == '-' && word != "--"
}

// option takes the value of -o: "name=value" or "{ name = value }".
func (s *Service) option(word string) {
	value := word
	if word[0] == '{' {
		value = s.unbrace(word)
	}
	setting, err := maincf.ParseSetting(value)
	switch {
	case err == nil && word[0] == '{':
		value = setting.Name + "=" + setting.Value
	case err != nil && word[0] == '{':
		s.Warnings = append(s.Warnings, err.Error())
	}
	s.Args = append(s.Args, value)
	if err == nil {
		s.Options = append(s.Options, setting)
	}
}

// unbrace removes the braces of a word and the white space inside of them.
func (s *Service) unbrace(word string) string {
	if word == "" || word[0] != '{' {
		return word
	}
	end := matchingBrace(word)
	switch {
	case end < 0:
		s.Warnings = append(s.Warnings, fmt.Sprintf("missing '}' in \"%s\"", word))
		return strings.Trim(word[1:], blanks)
	case end < len(word):
		s.Warnings = append(s.Warnings, fmt.Sprintf("syntax error after '}' in \"%s\"", word))
	}
	return strings.Trim(word[1:end-1], blanks)
}

// matchingBrace is the index behind the brace that closes the first byte, or -1.
func matchingBrace(text string) int {
	level := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			level++
		case '}':
			if level--; level == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// optionCount is how many of Args are options and their values.
func (s *Service) optionCount() int {
	n := 0
	for n < len(s.Args) && isOption(s.Args[n]) {
		if s.Args[n] == "-o" && n+1 < len(s.Args) {
			n++
		}
		n++
	}
	return n
}

// Operands are the arguments behind the options: what pipe(8), spawn(8) and
// local programs read.
func (s *Service) Operands() []string {
	rest := s.Args[s.optionCount():]
	if len(rest) > 0 && rest[0] == "--" {
		return rest[1:]
	}
	return rest
}

// BadOption is an -o without "name=value", which keeps the service from
// starting, or "".
func (s *Service) BadOption() string {
	args := s.Args[:s.optionCount()]
	for i := 0; i+1 < len(args); i++ {
		if args[i] != "-o" {
			continue
		}
		i++
		if _, err := maincf.ParseSetting(args[i]); err != nil {
			return fmt.Sprintf("invalid \"-o %s\" option value: %s", args[i], strings.SplitN(err.Error(), ":", 2)[0])
		}
	}
	return ""
}
