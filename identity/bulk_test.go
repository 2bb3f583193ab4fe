package identity

import (
	"crypto/ed25519"
	"crypto/sha512"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
	"github.com/oasisprotocol/curve25519-voi/curve"

	"charkha/internal/vectors"
)

// signedBatch makes n good signatures by a number of authors over messages of about 600 bytes.
func signedBatch(rng *rand.Rand, n, authors int) []Signed {
	keys := make([]KeyPair, authors)
	for i := range keys {
		var seed [32]byte
		for j := range seed {
			seed[j] = byte(rng.Uint32())
		}
		keys[i] = FromSeed(seed)
	}
	batch := make([]Signed, n)
	for i := range batch {
		k := keys[rng.IntN(authors)]
		msg := make([]byte, 400+rng.IntN(400))
		for j := range msg {
			msg[j] = byte(rng.Uint32())
		}
		batch[i] = Signed{ID: k.ID(), Msg: msg, Sig: k.Sign(msg)}
	}
	return batch
}

func torsionPoints(t testing.TB) []*edwards25519.Point {
	t.Helper()
	for seed := byte(0); ; seed++ {
		// L times any point has only the small-order part; look for one of order 8.
		b := [32]byte{seed, 1, 2, 3}
		p, err := new(edwards25519.Point).SetBytes(b[:])
		if err != nil {
			continue
		}
		lMinus1 := edwards25519.NewScalar().Subtract(edwards25519.NewScalar(), one())
		q := new(edwards25519.Point).ScalarMult(lMinus1, p)
		q.Add(q, p)
		id := edwards25519.NewIdentityPoint()
		four := new(edwards25519.Point).Add(q, q)
		four.Add(four, four)
		if four.Equal(id) == 1 {
			continue
		}
		var all []*edwards25519.Point
		acc := edwards25519.NewIdentityPoint()
		for range 8 {
			all = append(all, new(edwards25519.Point).Set(acc))
			acc.Add(acc, q)
		}
		return all
	}
}

func one() *edwards25519.Scalar {
	b := [32]byte{1}
	s, _ := edwards25519.NewScalar().SetCanonicalBytes(b[:])
	return s
}

func TestTorsionTestAgreesWithMultiplication(t *testing.T) {
	torsion := torsionPoints(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var k [64]byte
		for j := range k {
			k[j] = byte(rng.Uint32())
		}
		s, _ := edwards25519.NewScalar().SetUniformBytes(k[:])
		for i, tp := range torsion {
			p := new(edwards25519.Point).ScalarBaseMult(s)
			if rng.IntN(20) == 0 {
				p = edwards25519.NewIdentityPoint()
			}
			p.Add(p, tp)
			enc := [32]byte(p.Bytes())
			var a affine
			if !a.decode(&enc) {
				t.Fatal("decode refused a point")
			}
			var w [rounds]point
			for j := range w {
				w[j].setIdentity()
			}
			j := rng.IntN(rounds)
			w[j].x.Set(&a.x)
			w[j].y.Set(&a.y)
			w[j].t.Multiply(&a.x, &a.y)
			y := curve.CompressedEdwardsY(enc)
			var q curve.EdwardsPoint
			q.SetCompressedY(&y)
			if got, want := torsionFree(&w), i == 0; got != want || q.IsTorsionFree() != want {
				t.Fatalf("point with torsion %d/8: torsionFree %v, want %v", i, got, want)
			}
		}
	}
}

// The buckets give the same subset sums as adding them up one by one, for every number of bits that is taken at a time.
func TestSubsets(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 2, 100, 161, 321, 641, 1281, 3000} {
		b := &bulk{}
		var want [rounds]point
		for j := range want {
			want[j].setIdentity()
		}
		for range n {
			var k [64]byte
			for j := range k {
				k[j] = byte(rng.Uint32())
			}
			s, _ := edwards25519.NewScalar().SetUniformBytes(k[:])
			enc := [32]byte(new(edwards25519.Point).ScalarBaseMult(s).Bytes())
			var p affine
			var c cachedAffine
			if !p.decode(&enc) {
				t.Fatal("decode refused a point")
			}
			c.set(&p)
			z := rng.Uint64()
			b.points, b.z = append(b.points, c), append(b.z, z)
			for j := range want {
				if z>>j&1 == 1 {
					want[j].addAffine(&c)
				}
			}
		}
		var got [rounds]point
		b.subsets(&got)
		for j := range want {
			var a, c field.Element
			a.Multiply(&got[j].x, &want[j].z)
			c.Multiply(&want[j].x, &got[j].z)
			same := a.Equal(&c)
			a.Multiply(&got[j].y, &want[j].z)
			c.Multiply(&want[j].y, &got[j].z)
			if same&a.Equal(&c) != 1 {
				t.Fatalf("%d points: the sum for bit %d is wrong", n, j)
			}
		}
	}
}

func TestWide(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	for _, full := range []bool{false, true} {
		var w wide
		sum := new(big.Int)
		for range 3000 {
			z, b := rng.Uint64(), make([]byte, 64>>rng.IntN(2))
			for i := range b {
				b[i] = byte(rng.Uint32())
				if full {
					z, b[i] = math.MaxUint64, 0xff
				}
			}
			w.addProduct(z, b)
			be := slices.Clone(b)
			slices.Reverse(be)
			sum.Add(sum, new(big.Int).Mul(new(big.Int).SetUint64(z), new(big.Int).SetBytes(be)))
		}
		var got [32]byte
		if err := w.scalar().ToBytes(got[:]); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(got[:])
		if want := sum.Mod(sum, order); new(big.Int).SetBytes(got[:]).Cmp(want) != 0 {
			t.Errorf("got %x, want %x", got, want)
		}
	}
}

func BenchmarkVerifyAll(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, authors := range []int{1, 16, 200} {
		for _, n := range []int{64, 128, 256, 512, 1024, 4096} {
			batch := signedBatch(rng, n, authors)
			ok := make([]bool, n)
			b.Run(fmt.Sprintf("authors=%d/n=%d", authors, n), func(b *testing.B) {
				for b.Loop() {
					VerifyAll(batch, ok)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n)/1000, "us/sig")
			})
		}
	}
}

// BenchmarkVerifyStd is the rival of the claim: the standard library's check, one by one.
func BenchmarkVerifyStd(b *testing.B) {
	batch := signedBatch(rand.New(rand.NewPCG(1, 2)), 256, 16)
	i := 0
	for b.Loop() {
		sg := &batch[i%len(batch)]
		if !ed25519.Verify(sg.ID[:], sg.Msg, sg.Sig[:]) {
			b.Fatal("refused")
		}
		i++
	}
}

// crafted signs msg so that R has a small-order part: with secret scalar a it makes R' = r*B + t and S = r + h*a, which the
// cofactored equation accepts and Verify refuses.
func crafted(t testing.TB, rng *rand.Rand, msg []byte, torsion *edwards25519.Point, keyTorsion *edwards25519.Point) Signed {
	t.Helper()
	random := func() *edwards25519.Scalar {
		var k [64]byte
		for j := range k {
			k[j] = byte(rng.Uint32())
		}
		s, err := edwards25519.NewScalar().SetUniformBytes(k[:])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, r := random(), random()
	pub := new(edwards25519.Point).ScalarBaseMult(a)
	pub.Add(pub, keyTorsion)
	rp := new(edwards25519.Point).ScalarBaseMult(r)
	rp.Add(rp, torsion)
	sg := Signed{ID: ID(pub.Bytes()), Msg: msg}
	copy(sg.Sig[:32], rp.Bytes())
	h := sha512.New()
	h.Write(sg.Sig[:32])
	h.Write(sg.ID[:])
	h.Write(msg)
	k, err := edwards25519.NewScalar().SetUniformBytes(h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	copy(sg.Sig[32:], k.MultiplyAdd(k, a, r).Bytes())
	return sg
}

// agree checks that VerifyAll says of each of batch what Verify says, and returns how many are good.
func agree(t *testing.T, batch []Signed) (good int) {
	t.Helper()
	ok := make([]bool, len(batch))
	for i := range ok {
		ok[i] = i%2 == 0 // whatever stood there before
	}
	VerifyAll(batch, ok)
	for i, sg := range batch {
		want := Verify(sg.ID, sg.Msg, &sg.Sig)
		if ok[i] != want {
			t.Fatalf("signature %d of %d: in bulk %v, single %v (%x)", i, len(batch), ok[i], want, sg.Sig)
		}
		if want {
			good++
		}
	}
	return good
}

// Mixtures of good signatures, damaged ones, ones whose R or key has a part of small order, and ones that are only good
// when that part cancels out against each other: bulk and single agree on each.
func TestVerifyAllAgreesWithVerify(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	torsion := torsionPoints(t)
	zero := torsion[0]
	rounds, most := 60, 700
	if testing.Short() {
		rounds = 10
	}
	total := 0
	for range rounds {
		n := 1 + rng.IntN(most)
		batch := signedBatch(rng, n, 1+rng.IntN(40))
		bad := 0
		if rng.IntN(3) > 0 {
			bad = 1 + rng.IntN(4)
		}
		if rng.IntN(8) == 0 {
			bad = n
		}
		for range bad {
			i := rng.IntN(n)
			switch rng.IntN(6) {
			case 0:
				batch[i].Sig[rng.IntN(64)] ^= 1 << rng.IntN(8)
			case 1:
				batch[i].Msg = append(batch[i].Msg, 'x')
			case 2: // each small-order part on R
				batch[i] = crafted(t, rng, batch[i].Msg, torsion[1+rng.IntN(7)], zero)
			case 3: // a key with a small-order part: some of these are good, as 8 may divide h
				batch[i] = crafted(t, rng, batch[i].Msg, zero, torsion[1+rng.IntN(7)])
			case 4: // two that cancel out in the sum of all
				p := 1 + rng.IntN(7)
				batch[i] = crafted(t, rng, batch[i].Msg, torsion[p], zero)
				batch[(i+1)%n] = crafted(t, rng, batch[i].Msg, torsion[8-p], zero)
			case 5: // small order all of it
				copy(batch[i].Sig[:32], torsion[rng.IntN(8)].Bytes())
			}
		}
		good := agree(t, batch)
		total += good
		if bad == 0 && good != n {
			t.Fatalf("%d of %d good signatures refused", n-good, n)
		}
	}
	if total == 0 {
		t.Fatal("no good signature was tried")
	}
}

// A whole batch of the worst kind: every R is off by the point of order 2, which a subset sum misses with odds of 1/2.
func TestVerifyAllRefusesABatchOfSmallOrderParts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	torsion := torsionPoints(t)
	var batch []Signed
	for range 100 {
		batch = append(batch, crafted(t, rng, []byte("hello"), torsion[4], torsion[0]))
	}
	if good := agree(t, batch); good != 0 {
		t.Fatalf("%d accepted", good)
	}
}

// The memory of a bulk check is reused: none is allocated for each signature.
func TestVerifyAllAllocatesNothingPerSignature(t *testing.T) {
	batch := signedBatch(rand.New(rand.NewPCG(1, 2)), 512, 4)
	ok := make([]bool, len(batch))
	VerifyAll(batch, ok)
	if got := testing.AllocsPerRun(5, func() { VerifyAll(batch, ok) }); got > 128 {
		t.Errorf("%v allocations for %d signatures of 4 authors", got, len(batch))
	}
}

// Every vector goes through the bulk check alone and hidden at each position inside a batch of good signatures.
func TestVectorVerifyAll(t *testing.T) {
	t.Parallel()
	good := signedBatch(rand.New(rand.NewPCG(5, 6)), 5, 2)
	// bulkOnly is VerifyAll without the short cut for small batches.
	bulkOnly := func(batch []Signed) (ok []bool, took int) {
		ok = make([]bool, len(batch))
		b := bulks.Get().(*bulk)
		defer bulks.Put(b)
		if !b.check(batch, ok) {
			for i, sg := range batch {
				ok[i] = Verify(sg.ID, sg.Msg, &sg.Sig)
			}
		}
		return ok, len(b.index)
	}
	taken := 0
	for _, set := range []string{"ed25519-speccheck", "ed25519-cctv", "ed25519-zip215", "ed25519-wycheproof"} {
		for _, c := range vectors.JSON[[]signatureCase](t, set, "cases.json") {
			if len(c.Key) != 32 || len(c.Sig) != 64 {
				continue // cannot be written as a Signed
			}
			sg := Signed{ID: ID(c.Key), Msg: c.Msg, Sig: [64]byte(c.Sig)}
			ok, took := bulkOnly([]Signed{sg})
			if ok[0] != c.Answers.Libsodium {
				t.Errorf("%s case %s alone: bulk says %v, libsodium %v", set, c.ID, ok[0], c.Answers.Libsodium)
			}
			positions := len(good) + 1
			if took == 0 {
				positions = 1 // refused by its bytes, before it met the others
			} else {
				taken++
			}
			for p := range positions {
				batch := slices.Insert(slices.Clone(good), p, sg)
				ok, _ := bulkOnly(batch)
				for i := range batch {
					if want := i != p || c.Answers.Libsodium; ok[i] != want {
						t.Errorf("%s case %s at %d: bulk says %v of signature %d, want %v", set, c.ID, p, ok[i], i, want)
					}
				}
			}
		}
	}
	if taken == 0 {
		t.Error("no vector reached the group equation")
	}
}
