package mailtls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
)

// alertNames are OpenSSL's words for alerts of the peer; its error codes are
// 1000 (decimal) above the number.
var alertNames = map[int]string{
	10: "sslv3 alert unexpected message", 20: "sslv3 alert bad record mac", 30: "sslv3 alert decompression failure",
	40: "sslv3 alert handshake failure", 41: "sslv3 alert no certificate", 42: "sslv3 alert bad certificate",
	43: "sslv3 alert unsupported certificate", 44: "sslv3 alert certificate revoked", 45: "sslv3 alert certificate expired",
	46: "sslv3 alert certificate unknown", 47: "sslv3 alert illegal parameter", 48: "tlsv1 alert unknown ca",
	49: "tlsv1 alert access denied", 50: "tlsv1 alert decode error", 51: "tlsv1 alert decrypt error",
	70: "tlsv1 alert protocol version", 71: "tlsv1 alert insufficient security", 80: "tlsv1 alert internal error",
	86: "tlsv1 alert inappropriate fallback", 90: "tlsv1 alert user cancelled", 100: "tlsv1 alert no renegotiation",
	109: "tlsv13 alert missing extension", 110: "tlsv1 unsupported extension", 112: "tlsv1 unrecognized name",
	116: "tlsv13 alert certificate required", 120: "no application protocol",
}

// alertError is an alert in the clear where crypto/tls expected an encrypted
// one: OpenSSL's clients refuse a certificate in this way.
type alertError struct{ number int }

func (e alertError) Error() string { return tls.AlertError(e.number).Error() }

// watched is a connection that remembers the end of what was received.
type watched struct {
	net.Conn
	tail []byte
	over bool // the handshake is
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if !w.over && n > 0 {
		w.tail = append(w.tail, p[max(0, n-alertSize):n]...)
		w.tail = w.tail[max(0, len(w.tail)-alertSize):]
	}
	return n, err
}

const alertSize = 7 // of the record of an alert

// explain finds an alert behind an error of decryption.
func (w *watched) explain(err error) error {
	t := w.tail
	if len(t) == alertSize && t[0] == 21 && t[1] == 3 && t[3] == 0 && t[4] == 2 && strings.Contains(err.Error(), "bad record MAC") {
		return alertError{int(t[6])}
	}
	return err
}

// alertNumber finds the number of an alert that the peer sent; crypto/tls has
// only its text.
func alertNumber(err error) (int, bool) {
	var plain alertError
	if errors.As(err, &plain) {
		return plain.number, true
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	for n := range 256 {
		if tls.AlertError(n).Error() == op.Err.Error() {
			return n, true
		}
	}
	return 0, false
}

// libraryText is a failure of the handshake in OpenSSL's words, which programs
// that watch logs look for; "" when it is the connection's.
func libraryText(err error) string {
	const ssl = "error:0A000%03X:SSL routines::%s:../ssl/%s:"
	var header tls.RecordHeaderError
	if errors.As(err, &header) {
		switch first := string(header.RecordHeader[:]); {
		case strings.HasPrefix(first, "GET "), strings.HasPrefix(first, "POST "), strings.HasPrefix(first, "HEAD "), strings.HasPrefix(first, "PUT "):
			return fmt.Sprintf(ssl, 0x9C, "http request", "record/ssl3_record.c:341")
		case strings.HasPrefix(first, "CONNE"):
			return fmt.Sprintf(ssl, 0x9B, "https proxy request", "record/ssl3_record.c:344")
		}
		return fmt.Sprintf(ssl, 0x10B, "wrong version number", "record/ssl3_record.c:350")
	}
	if n, ok := alertNumber(err); ok {
		name := alertNames[n]
		if name == "" {
			name = "reason(" + fmt.Sprint(1000+n) + ")"
		}
		return fmt.Sprintf(ssl, 1000+n, name, "record/rec_layer_s3.c:1601") + fmt.Sprintf("SSL alert number %d:", n)
	}
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "local error: "), "tls: ")
	switch {
	case ended(err) || isTimeout(err):
		return ""
	case strings.HasPrefix(text, "no cipher suite supported by both"):
		return fmt.Sprintf(ssl, 0xC1, "no shared cipher", "statem/statem_srvr.c:2226")
	case strings.HasPrefix(text, "client offered only unsupported versions"), strings.HasPrefix(text, "server selected unsupported protocol"):
		return fmt.Sprintf(ssl, 0x102, "unsupported protocol", "statem/statem_lib.c:1986")
	}
	return "error:0A000000:SSL routines::" + text
}

func ended(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &op) && op.Op != "remote error" && op.Op != "local error"
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// logFailure writes the lines of a failed handshake; call is SSL_accept or
// SSL_connect.
func logFailure(log *maillog.Logger, call, peer string, err error) {
	if text := libraryText(err); text != "" {
		log.Infof("%s error %s: -1", call, peer)
		log.Warnf("%s", library(text))
		return
	}
	reason := "lost connection"
	if isTimeout(err) {
		reason = "Connection timed out"
	} else if text := strerror.Text(err); text == "Connection reset by peer" || text == "Broken pipe" {
		reason = text
	}
	log.Infof("%s error %s: %s", call, peer, reason)
}
