package sasl

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"posthaste/internal/sys/maillog"
)

// saslauthd answers one request with raw bytes and returns its fields.
func saslauthd(answer string) (dial func(context.Context, string, string) (net.Conn, error), asked chan string) {
	asked = make(chan string, 1)
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			var fields []string
			for range 4 {
				var size [2]byte
				if _, err := io.ReadFull(far, size[:]); err != nil {
					return
				}
				text := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(far, text); err != nil {
					return
				}
				fields = append(fields, string(text))
			}
			asked <- strings.Join(fields, "|")
			io.WriteString(far, answer)
		}()
		return near, nil
	}, asked
}

func counted(s string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestSaslauthd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer, login, asked string
		want                 Step
	}{
		{counted("OK"), "\x00alice\x00secret", "alice|secret|smtp|", Step{Outcome: Done, Username: "alice"}},
		{counted("OK thanks"), "alice@x.example\x00alice@x.example\x00secret", "alice|secret|smtp|x.example", Step{Outcome: Done, Username: "alice@x.example"}},
		{counted("NO"), "\x00alice\x00wrong", "alice|wrong|smtp|", Step{Outcome: Failed, Reason: "authentication failure", Username: "alice"}},
		{counted("OKAY"), "\x00alice\x00x", "alice|x|smtp|", Step{Outcome: Temporary, Reason: "generic failure"}},
		{"\x00", "\x00alice\x00x", "alice|x|smtp|", Step{Outcome: Temporary, Reason: "generic failure"}},
		{counted("OK"), "\x00alice\x00", "", Step{Outcome: Failed, Reason: "authentication failure", Username: "alice"}},
		{counted("OK"), "bob\x00alice\x00secret", "", Step{Outcome: Failed, Reason: "bad protocol / cancel"}},
		{counted("OK"), "alice", "", Step{Outcome: Failed, Reason: "bad protocol / cancel"}},
		{counted("OK"), "\x00al\nice\x00" + strings.Repeat("x", maxCredential+1), "", Step{Outcome: Failed, Reason: "authentication failure", Username: "al?ice"}},
	} {
		s := NewSaslauthd("/mux", "", maillog.New(&maillog.Memory{}, "t", 1, nil))
		dial, asked := saslauthd(c.answer)
		s.dial = dial
		_, step := s.Begin(t.Context(), Request{Mechanism: "PLAIN", Initial: encode(c.login), HasInitial: true, Service: "smtp"})
		got := ""
		select {
		case got = <-asked:
		default:
		}
		if step != c.want || got != c.asked {
			t.Errorf("%q: %+v, asked %q", c.login, step, got)
		}
	}
}

func TestSaslauthdLogin(t *testing.T) {
	t.Parallel()
	s := NewSaslauthd("/mux", "local.example", maillog.New(&maillog.Memory{}, "t", 1, nil))
	dial, asked := saslauthd(counted("OK"))
	s.dial = dial
	talk, step := s.Begin(t.Context(), Request{Mechanism: "LOGIN", Service: "smtp"})
	if step.Challenge != promptUser {
		t.Fatalf("%+v", step)
	}
	if step = talk.Next(t.Context(), encode("bob")); step.Challenge != promptPassword {
		t.Fatalf("%+v", step)
	}
	if step = talk.Next(t.Context(), encode("pass word")); step != (Step{Outcome: Done, Username: "bob@local.example"}) {
		t.Fatalf("%+v", step)
	}
	if got := <-asked; got != "bob|pass word|smtp|local.example" {
		t.Error(got)
	}
	if _, step := s.Begin(t.Context(), Request{Mechanism: "PLAIN"}); step != (Step{Outcome: More}) {
		t.Errorf("%+v", step)
	}
}
