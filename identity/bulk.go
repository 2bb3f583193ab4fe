package identity

import (
	"bytes"
	crand "crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"filippo.io/edwards25519/field"
	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

// Signed is a signature to be checked: what Verify takes.
type Signed struct {
	ID  ID
	Msg []byte
	Sig [64]byte
}

// rounds is the number of random bits that each signature of a bulk check is weighted with, and of subset sums that are
// tested for small-order parts: the odds of a wrong yes are below 2 to the minus (rounds-1).
const rounds = 64

// bulkLeast is the size from which a bulk check is cheaper than single ones.
const bulkLeast = 48

// bulkSplit is the size of the pieces in which a failed bulk check is tried again before it is done one by one.
const bulkSplit = 128

// VerifyAll sets ok[i] to Verify(batch[i]...), for all of a batch together, several times faster than one by one when
// there are a few hundred. ok must be as long as batch. It runs on the caller's goroutine and is safe for concurrent use.
// See bulk.go for why it answers as Verify does.
//
// # The argument
//
// Verify says yes exactly when, after refusals by bytes, S*B - h*A encodes to the bytes of R. Encoding gives canonical
// bytes only, so an R that is not the canonical encoding of a point is refused, and for the others the question is whether
//
//	D = S*B - h*A - R
//
// is the neutral element, as a point of the whole group, which is the product of a group of prime order L and one of order
// 8. There is no cofactor in it, so "8*D = 0", which the usual batch equation decides, would not do.
//
// Every public key is tested once for a part of small order. One that has such a part goes the single way, with all its
// signatures. For the others, D has the small-order part of -R and nothing else.
//
// Each signature i of a batch gets a fresh random number z of 64 bits, unknown to whoever made the signatures. With b the
// bits of z, the subset sums W[j] = sum of R[i] over those i with b[i][j] = 1 are made for j = 0..63. Two things are tested:
//
//  1. Every W[j] has no small-order part. If some R[i] has one, t != 0 in Z/8, then whatever the other bits of column j
//     are, one of the two values of b[i][j] leaves a non-zero part in W[j]: a column misses it with odds of at most 1/2, and
//     the columns are independent. All miss with odds of at most 2^-64.
//
//  2. sum of 2^j*W[j] = (sum of z*S)*B - sum over the authors of (sum of z*h)*A. If 1 holds rightly, all D are in the group
//     of order L, and this says that sum of z*D = 0. If some D[i] is not 0, then for any values of the other z at most one z
//     of the 2^64 makes the sum 0, as L is a prime above 2^64: odds of at most 2^-64.
//
// So a batch that holds a signature which Verify refuses passes with odds below 2^-63. A batch of good ones always passes:
// all D are 0, and R = S*B - h*A has no small-order part as B and A have none. When a batch fails, its pieces and then its
// signatures are checked by themselves: a bad one takes no good one with it.
//
// # The test for small order
//
// On the Montgomery form y^2 = x^3 + a*x^2 + x the rational points are a cyclic group of order 8*L, since a^2-4 is no
// square and so (0,0) is the only point of order 2. Let v in Z/8 be the small-order part of a point.
//
// By 2-descent, the point is twice another exactly when its x is a square, that is when v is even, and its half is found with
// two square roots, through the 2-isogenous curve y^2 = x^3 - 2a*x^2 + (a^2-4)*x; see halve. The half has v/2 or v/2+4. The
// Tate pairing with a point of order 4 tells v modulo 4, see quarterable: of the half it is 0 for v = 0 only (2 and 6 lead to
// 1, 3, 5 or 7; 4 to 2 or 6). That is three exponentiations instead of a multiplication by L.
func VerifyAll(batch []Signed, ok []bool) {
	verifyAll(batch, ok, false)
}

func verifyAll(batch []Signed, ok []bool, piece bool) {
	_ = ok[:len(batch)]
	if len(batch) >= bulkLeast {
		b := bulks.Get().(*bulk)
		good := b.check(batch, ok)
		bulks.Put(b)
		if good {
			return
		}
		if !piece && len(batch) > bulkSplit {
			for i := 0; i < len(batch); i += bulkSplit {
				end := min(i+bulkSplit, len(batch))
				verifyAll(batch[i:end], ok[i:end], true)
			}
			return
		}
	}
	for i := range batch {
		ok[i] = Verify(batch[i].ID, batch[i].Msg, &batch[i].Sig)
	}
}

// bulkKey is a public key ready for bulk checks.
type bulkKey struct {
	id       ID
	plain    bool // on the curve, acceptable to Verify, and without a small-order part
	expanded *curve.ExpandedEdwardsPoint
}

// bulkKeys remembers keys that were used lately, in one of the ways of a set that a hash chooses, so that nobody can make
// keys that drive each other out: at most 4096, of 1.5 KB each.
var (
	bulkKeys [1024][4]atomic.Pointer[bulkKey]
	bulkSeed = maphash.MakeSeed()
)

func bulkKeyOf(id ID) *bulkKey {
	h := maphash.Bytes(bulkSeed, id[:])
	set := &bulkKeys[h%uint64(len(bulkKeys))]
	slot := &set[h>>32%uint64(len(set))] // the one that makes room
	for i := range set {
		k := set[i].Load()
		if k == nil {
			slot = &set[i]
			break
		}
		if k.id == id {
			return k
		}
	}
	k := &bulkKey{id: id}
	if canonicalY((*[32]byte)(&id)) && !smallOrder((*[32]byte)(&id)) {
		y := curve.CompressedEdwardsY(id)
		var p curve.EdwardsPoint
		if _, err := p.SetCompressedY(&y); err == nil && p.IsTorsionFree() {
			k.plain = true
			k.expanded = curve.NewExpandedEdwardsPoint(&p)
		}
	}
	slot.Store(k)
	return k
}

// bulk is the memory of one bulk check.
type bulk struct {
	index   []int32 // of the signatures that take part, in the batch
	z       []uint64
	points  []cachedAffine
	buckets [1 << 8]point
	authors map[ID]int
	keys    []*curve.ExpandedEdwardsPoint
	hs      []wide           // for each author the sum of z*h
	sums    []*scalar.Scalar // the same modulo L
	sha     [64]byte
	hashed  []byte
	rng     *rand.ChaCha8
}

var bulks = sync.Pool{New: func() any {
	var seed [32]byte
	crand.Read(seed[:]) // never fails
	return &bulk{authors: map[ID]int{}, rng: rand.NewChaCha8(seed)}
}}

// check decides a batch and sets ok; false: it could not, and ok means nothing.
func (b *bulk) check(batch []Signed, ok []bool) bool {
	b.index, b.z, b.points = b.index[:0], b.z[:0], b.points[:0]
	b.keys, b.hs, b.sums = b.keys[:0], b.hs[:0], b.sums[:0]
	clear(b.authors)
	var s scalar.Scalar
	var sumS wide
	var p affine
	hash := sha512.New()
	for i := range batch {
		sg := &batch[i]
		ok[i] = false
		r := (*[32]byte)(sg.Sig[:32])
		if _, err := s.SetCanonicalBytes(sg.Sig[32:]); err != nil || smallOrder(r) || !canonicalY(r) {
			continue
		}
		a, known := b.authors[sg.ID]
		if !known {
			key := bulkKeyOf(sg.ID)
			a = -1
			if key.plain {
				a = len(b.keys)
				b.keys = append(b.keys, key.expanded)
				b.hs = append(b.hs, wide{})
			}
			b.authors[sg.ID] = a
		}
		if a < 0 {
			ok[i] = Verify(sg.ID, sg.Msg, &sg.Sig)
			continue
		}
		n := len(b.points)
		if !p.decode(r) {
			continue
		}
		b.points = append(b.points, cachedAffine{})
		b.points[n].set(&p)
		hash.Reset()
		hash.Write(r[:])
		hash.Write(sg.ID[:])
		hash.Write(sg.Msg)
		b.hashed = hash.Sum(b.sha[:0])
		z := b.rng.Uint64()
		b.hs[a].addProduct(z, b.hashed)
		sumS.addProduct(z, sg.Sig[32:])
		b.z = append(b.z, z)
		b.index = append(b.index, int32(i))
		ok[i] = true
	}
	if len(b.points) == 0 {
		return true
	}
	var w [rounds]point
	b.subsets(&w)
	if !torsionFree(&w) {
		return false
	}
	for i := range b.hs {
		b.sums = append(b.sums, b.hs[i].scalar())
	}
	// -(sum z*R) = sum over authors (sum z*h)*A - (sum z*S)*B
	b.keys = append(b.keys, basepoint)
	S := sumS.scalar()
	b.sums = append(b.sums, S.Neg(S))
	var right curve.EdwardsPoint
	right.ExpandedMultiscalarMulVartime(b.sums, b.keys, nil, nil)
	right.Neg(&right)
	var rightBytes curve.CompressedEdwardsY
	rightBytes.SetEdwardsPoint(&right)
	leftBytes := horner(&w)
	return bytes.Equal(leftBytes[:], rightBytes[:])
}

// wide is a sum of up to 2^32 products of 64 and 512 bits, the low word first. Only the sum is taken modulo L.
type wide [10]uint64

// addProduct adds z times a little-endian number of whole words, at most 8.
func (w *wide) addProduct(z uint64, b []byte) {
	var carry, c uint64
	i := 0
	for ; len(b) >= 8; b = b[8:] {
		hi, lo := bits.Mul64(z, binary.LittleEndian.Uint64(b))
		lo, c = bits.Add64(lo, carry, 0)
		carry = hi + c // at most 2^64-1: the product leaves room
		w[i], c = bits.Add64(w[i], lo, 0)
		carry += c // again: (2^64-1)^2 + 2*(2^64-1) is below 2^128
		i++
	}
	for ; carry != 0; i++ {
		w[i], carry = bits.Add64(w[i], carry, 0)
	}
}

// scalar gives the sum modulo L.
func (w *wide) scalar() *scalar.Scalar {
	var b [64]byte
	var low, high scalar.Scalar
	for i, word := range w[:8] {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	low.SetBytesModOrderWide(b[:]) // 64 bytes are never an error
	clear(b[:])
	for i, word := range w[8:] {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	high.SetBytesModOrderWide(b[:])
	high.Mul(&high, &const2e512)
	return low.Add(&low, &high)
}

// const2e512 is 2^512 modulo L.
var const2e512 = func() (s scalar.Scalar) {
	var b [64]byte
	b[32] = 1
	s.SetBytesModOrderWide(b[:]) // 2^256
	s.Mul(&s, &s)
	return s
}()

var basepoint = curve.NewExpandedEdwardsPoint(curve.ED25519_BASEPOINT_POINT)

// affine is a point of the Edwards curve -x^2 + y^2 = 1 + d*x^2*y^2.
type affine struct{ x, y field.Element }

// point is a point in extended coordinates: x = X/Z, y = Y/Z, x*y = T/Z.
type point struct{ x, y, z, t field.Element }

// cached is a point prepared to be added to others: Y+X, Y-X, 2*Z, 2*d*T.
type cached struct{ sum, diff, z2, t2d field.Element }

// cachedAffine is the same with Z = 1.
type cachedAffine struct{ sum, diff, t2d field.Element }

// decode reads the canonical encoding of a point; false: there is no such point.
func (p *affine) decode(b *[32]byte) bool {
	p.y.SetBytes(b[:]) // ignores the top bit; 32 bytes are never an error
	var u, v, one field.Element
	one.One()
	u.Square(&p.y)
	v.Multiply(&u, &constD)
	u.Subtract(&u, &one)
	v.Add(&v, &one)
	if _, square := p.x.SqrtRatio(&u, &v); square == 0 {
		return false
	}
	if sign := int(b[31] >> 7); p.x.IsNegative() != sign {
		p.x.Negate(&p.x)
		if p.x.IsNegative() != sign { // x = 0 has no negative: not canonical
			return false
		}
	}
	return true
}

func (p *point) setIdentity() {
	p.x.Zero()
	p.y.One()
	p.z.One()
	p.t.Zero()
}

func (c *cachedAffine) set(p *affine) {
	c.sum.Add(&p.y, &p.x)
	c.diff.Subtract(&p.y, &p.x)
	c.t2d.Multiply(&p.x, &p.y)
	c.t2d.Multiply(&c.t2d, &const2D)
}

func (c *cached) set(p *point) {
	c.sum.Add(&p.y, &p.x)
	c.diff.Subtract(&p.y, &p.x)
	c.z2.Add(&p.z, &p.z)
	c.t2d.Multiply(&p.t, &const2D)
}

// add adds q to p. The formulas are complete (Hisil, Wong, Carter, Dawson 2008).
func (p *point) add(q *cached) {
	var d field.Element
	d.Multiply(&p.z, &q.z2)
	p.finish(&q.sum, &q.diff, &q.t2d, &d)
}

// addAffine adds q to p.
func (p *point) addAffine(q *cachedAffine) {
	var d field.Element
	d.Add(&p.z, &p.z)
	p.finish(&q.sum, &q.diff, &q.t2d, &d)
}

// finish adds a point of which sum, diff and t2d are known, and the product d of 2*Z with our Z.
func (p *point) finish(sum, diff, t2d, d *field.Element) {
	var a, b, c, e field.Element
	a.Subtract(&p.y, &p.x)
	a.Multiply(&a, diff)
	b.Add(&p.y, &p.x)
	b.Multiply(&b, sum)
	c.Multiply(&p.t, t2d)
	e.Subtract(&b, &a)
	b.Add(&b, &a)
	a.Subtract(d, &c)
	d.Add(d, &c)
	p.x.Multiply(&e, &a)
	p.y.Multiply(d, &b)
	p.t.Multiply(&e, &b)
	p.z.Multiply(&a, d)
}

// subsets makes the subset sums W of the points by the bits of z, some bits at a time: each point goes into the bucket that
// these bits name, and the sums over the buckets with a bit set are made by folding the buckets in halves.
func (b *bulk) subsets(w *[rounds]point) {
	width := 4 // bits at a time; more are better for more points
	for len(b.points) > 10<<width && width < 8 {
		width++
	}
	buckets := b.buckets[:1<<width]
	for from := 0; from < rounds; from += width {
		width := min(width, rounds-from)
		buckets := buckets[:1<<width]
		for i := range buckets {
			buckets[i].setIdentity()
		}
		for i := range b.points {
			if s := b.z[i] >> from & (1<<width - 1); s != 0 {
				buckets[s].addAffine(&b.points[i])
			}
		}
		for k := width - 1; k >= 0; k-- {
			half := 1 << k
			sum := buckets[half]
			var c cached
			for s := 1; s < half; s++ {
				c.set(&buckets[half+s])
				sum.add(&c)
				buckets[s].add(&c)
			}
			w[from+k] = sum
		}
	}
}

// horner encodes the sum of 2^j*W[j].
func horner(w *[rounds]point) [32]byte {
	sum := w[rounds-1]
	var c cached
	for j := rounds - 2; j >= 0; j-- {
		c.set(&sum)
		sum.add(&c)
		c.set(&w[j])
		sum.add(&c)
	}
	var inv, x, y field.Element
	inv.Invert(&sum.z)
	x.Multiply(&sum.x, &inv)
	y.Multiply(&sum.y, &inv)
	out := [32]byte(y.Bytes())
	out[31] |= byte(x.IsNegative()) << 7
	return out
}

// torsionFree reports whether none of the points has a part of small order.
func torsionFree(w *[rounds]point) bool {
	// The Montgomery coordinates are (Z+Y)/(Z-Y) and c*x*Z/X. One inversion serves all: inv[j] = 1/(X*(Z-Y)).
	var prefix, den [rounds]field.Element
	var zero, acc, d field.Element
	acc.One()
	skip := [rounds]bool{}
	for j := range w {
		p := &w[j]
		d.Subtract(&p.z, &p.y)
		den[j].Multiply(&d, &p.x)
		if den[j].Equal(&zero) == 1 {
			// X = 0: the neutral element, or (0,-1) of order 2.
			if d.Equal(&zero) == 0 {
				return false
			}
			skip[j] = true
			continue
		}
		prefix[j].Set(&acc)
		acc.Multiply(&acc, &den[j])
	}
	acc.Invert(&acc)
	for j := rounds - 1; j >= 0; j-- {
		if skip[j] {
			continue
		}
		p := &w[j]
		var inv, x, y field.Element
		inv.Multiply(&acc, &prefix[j])
		acc.Multiply(&acc, &den[j])
		// x = (Z+Y)*X*inv ; y = c*x*Z*(Z-Y)*inv
		x.Add(&p.z, &p.y)
		x.Multiply(&x, &p.x)
		x.Multiply(&x, &inv)
		y.Subtract(&p.z, &p.y)
		y.Multiply(&y, &inv)
		y.Multiply(&y, &p.z)
		y.Multiply(&y, &x)
		y.Multiply(&y, &constC)
		if !halve(&x, &y) || !quarterable(&x, &y) {
			return false
		}
	}
	return true
}

// halve replaces a point of the Montgomery curve, not (0,0), by one of which it is the double, up to sign; false: there
// is none.
func halve(x, y *field.Element) bool {
	// Up the dual isogeny: with s^2 = x, the preimages have x' = a + 2x +- 2y/s, whose product a^2-4 is no square: just one
	// of them is a square, t^2, and is in turn an image.
	var r, s, xp, rho, t field.Element
	if _, square := r.SqrtRatio(&constOne, x); square == 0 {
		return false
	}
	s.Multiply(x, &r)
	xp.Multiply(y, &r)
	xp.Add(&xp, x)
	xp.Add(&xp, &xp)
	xp.Add(&xp, &constA)
	if _, square := rho.SqrtRatio(&constOne, &xp); square == 1 {
		t.Multiply(&xp, &rho)
	} else { // rho^2 = sqrt(-1)/x', so t^2 = (a^2-4)/x'
		t.Multiply(&rho, &constOther)
		xp.Square(&t)
		s.Negate(&s)
	}
	// Up the isogeny: x1 = (x' - a)/2 + s*t, y1 = t*x1.
	xp.Subtract(&xp, &constA)
	xp.Multiply(&xp, &constHalf)
	s.Multiply(&s, &t)
	x.Add(&xp, &s)
	y.Multiply(x, &t)
	return true
}

// quarterable reports whether a point of the Montgomery curve, neither (0,0) nor neutral, is 4 times another: whether its reduced
// Tate pairing with T = (1, sqrt(a+2)), of order 4, is 1. The function with divisor 4(T) - 4(O) is l^2/x, where l = y - sqrt(a+2)*x is
// the tangent at T, and x the one at 2T = (0,0).
func quarterable(x, y *field.Element) bool {
	var l, v, e field.Element
	l.Multiply(x, &constT)
	l.Subtract(y, &l)
	l.Square(&l)
	// To the power (p-1)/4 = 2*(p-5)/8 + 1. There 1/x is x^3.
	v.Square(x)
	v.Multiply(&v, x)
	v.Multiply(&v, &l)
	e.Pow22523(&v)
	e.Square(&e)
	e.Multiply(&e, &v)
	return e.Equal(&constOne) == 1
}

var (
	constOne, constTwo, constHalf field.Element
	constD, const2D               field.Element // d = -121665/121666 of the Edwards curve
	constA                        field.Element // a = 486662 of the Montgomery curve
	constC                        field.Element // sqrt(-(a+2)), the scale between the two
	constOther                    field.Element // sqrt((a^2-4)/sqrt(-1))
	constT                        field.Element // sqrt(a+2)
)

func init() {
	var x, y field.Element
	constOne.One()
	constTwo.Add(&constOne, &constOne)
	constHalf.Invert(&constTwo)
	x.Mult32(&constOne, 121665)
	y.Mult32(&constOne, 121666)
	y.Invert(&y)
	constD.Multiply(&x, &y)
	constD.Negate(&constD)
	const2D.Add(&constD, &constD)
	constA.Mult32(&constOne, 486662)
	x.Add(&constA, &constTwo)
	_, ok4 := constT.SqrtRatio(&x, &constOne)
	x.Negate(&x)
	_, ok := constC.SqrtRatio(&x, &constOne)
	// a^2-4 is no square, so SqrtRatio gives sqrt(sqrt(-1)*(a^2-4)); dividing by sqrt(-1) leaves sqrt((a^2-4)/sqrt(-1)).
	var minusOne, i, c field.Element
	minusOne.Negate(&constOne)
	_, ok2 := i.SqrtRatio(&minusOne, &constOne)
	c.Square(&constA)
	c.Subtract(&c, y.Add(&constTwo, &constTwo))
	_, ok3 := constOther.SqrtRatio(&c, &constOne)
	i.Invert(&i)
	constOther.Multiply(&constOther, &i)
	if ok != 1 || ok2 != 1 || ok3 != 0 || ok4 != 1 {
		panic("identity: internal error: curve constants")
	}
}
