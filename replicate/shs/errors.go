package shs

import (
	"errors"
	"fmt"
	"os"
)

// Why there is no connection. A remote that refuses us does not say why, so an error of Client or Server may wrap two of
// these: all that can be the reason. One that wraps a single one is sure. Its text says the same in a sentence.
var (
	// ErrNetwork: the remote's network key is not ours, or it speaks something else.
	ErrNetwork = errors.New("not on our network")
	// ErrRefused: the remote hung up on us.
	ErrRefused = errors.New("refused by the remote")
	// ErrKey: the remote does not have the key that the address names; for a server: the client looked for another one.
	ErrKey = errors.New("not the expected key")
	// ErrProof: the remote could not prove that the key it showed is its own, or that key is none.
	ErrProof = errors.New("no proof of identity")
	// ErrTimeout: the remote took longer than Config.Timeout. It is an os.ErrDeadlineExceeded too.
	ErrTimeout = fmt.Errorf("handshake: %w", os.ErrDeadlineExceeded)
)

// ErrDamaged is what Read answers when what arrived is not what the remote sent: somebody changed it on the way, or the
// remote lost count.
var ErrDamaged = errors.New("box stream is damaged")

// refusal is an error whose sentence stands beside its reasons instead of repeating them.
type refusal struct {
	says string
	may  []error
}

func (r *refusal) Error() string   { return "secret handshake: " + r.says }
func (r *refusal) Unwrap() []error { return r.may }

func refuse(says string, may ...error) error { return &refusal{says, may} }
