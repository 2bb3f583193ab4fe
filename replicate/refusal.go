package replicate

import (
	"strconv"
	"sync"

	"charkha/identity"
)

// refusal is what refused messages have in common that are told of together.
type refusal struct {
	peer, feed identity.ID
	status     string
}

// refusals counts what was refused, so that a flood of it is a few lines in the log: of each kind the first, and then
// whenever the count has one digit more.
type refusals struct {
	mu   sync.Mutex
	seen map[refusal]int64
}

// maxRefusals bounds the kinds that are counted. Beyond, counting begins anew.
const maxRefusals = 4096

// add counts n more and reports how many there were and whether that is worth a line.
func (r *refusals) add(k refusal, n int64) (total int64, tell bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.seen[k]
	if before == 0 && (r.seen == nil || len(r.seen) >= maxRefusals) {
		r.seen = map[refusal]int64{}
	}
	total = before + n
	r.seen[k] = total
	return total, before == 0 || len(strconv.FormatInt(total, 10)) > len(strconv.FormatInt(before, 10))
}
