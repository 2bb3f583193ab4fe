package log

import (
	"errors"

	"charkha/identity"
	"charkha/log/internal/classic"
)

// Verify checks a message that stands alone, whatever is held of its feed, and returns it in the form in which it is stored, and its
// id: it is a message of the network that its author signed. Nothing is stored.
func (l *Log) Verify(raw []byte) (value []byte, id identity.MsgID, err error) {
	var s classic.Scanner
	m, err := s.Scan(raw)
	if err != nil {
		return nil, id, err
	}
	if err := m.Standalone(); err != nil {
		return nil, id, err
	}
	if !m.VerifySignature(l.o.HMACKey) {
		return nil, id, errors.New("the signature is wrong")
	}
	return m.Value, m.Key, nil // the scanner is not used again
}
