package classic

import (
	"bytes"
	"math"
	"strconv"
	"unsafe"
)

// The kinds of a number, beside the first byte of all other values.
const (
	kindNumber = '0'
	kindHuge   = '+' // above the largest double: Infinity in JS, which JSON.stringify prints as null
	kindMinus  = '-' // below the lowest
)

// number reads a number and writes it to both spellings.
func (s *Scanner) number() (kind byte, err error) {
	raw, start := s.raw, s.i
	i := start
	if raw[i] == '-' {
		i++
	}
	first := i
	for i < len(raw) && raw[i]-'0' <= 9 {
		i++
	}
	s.i = i
	if i == first || raw[first] == '0' && i > first+1 {
		return 0, s.fail("not a number of JSON")
	}
	point, exp := -1, -1
	if i < len(raw) && raw[i] == '.' {
		point = i
		i++
		for i < len(raw) && raw[i]-'0' <= 9 {
			i++
		}
		if s.i = i; i == point+1 {
			return 0, s.fail("not a number of JSON")
		}
	}
	if i < len(raw) && raw[i]|0x20 == 'e' {
		i++
		if i < len(raw) && (raw[i] == '+' || raw[i] == '-') {
			i++
		}
		exp = i
		for i < len(raw) && raw[i]-'0' <= 9 {
			i++
		}
		if s.i = i; i == exp {
			return 0, s.fail("not a number of JSON")
		}
	}
	s.i = i
	token := raw[start:i]
	// Different decimals of up to 15 digits are different doubles, so each is its own shortest form when it is written
	// without an exponent and without zeros that could go.
	if exp < 0 && i-first <= 15 && (raw[first] != '0' || point < 0 && first == start) && (point < 0 || raw[i-1] != '0') {
		s.compact = append(s.compact, token...)
		s.pretty = append(s.pretty, token...)
		return kindNumber, nil
	}
	f := parseNumber(token)
	s.pretty = AppendNumber(s.pretty, f)
	s.compact = AppendNumber(s.compact, f)
	switch {
	case f > math.MaxFloat64:
		return kindHuge, nil
	case f < -math.MaxFloat64:
		return kindMinus, nil
	}
	return kindNumber, nil
}

// parseNumber returns the double nearest to a number of JSON, an infinity when it is out of range.
//
// strconv.ParseFloat reads no more than five digits of an exponent, and loses the point behind more than 800 digits, so
// that it and V8 disagree on thousands of zeros that an exponent makes up for. Such a number is written anew for it.
func parseNumber(token []byte) float64 {
	if len(token) <= 15 {
		n := int64(0)
		for i, c := range token {
			if c -= '0'; c > 9 {
				break
			}
			if n = n*10 + int64(c); i == len(token)-1 {
				return float64(n)
			}
		}
	}
	text := unsafe.String(unsafe.SliceData(token), len(token))
	at := len(token) // of the exponent's e; it has few digits, or many zeros in front
	for at > 0 && token[at-1]|0x20 != 'e' {
		at--
	}
	if len(token) <= 800 && (at == 0 || len(token)-at <= 5) {
		f, _ := strconv.ParseFloat(text, 64) // an error only says that it is out of range
		return f
	}
	const far = 1 << 40 // beyond the length of any input, so that no digits in front make up for it
	mantissa, exp := token, int64(0)
	if at > 0 {
		mantissa = token[:at-1]
		for _, c := range token[at:] {
			if c >= '0' && exp < far { // and not a sign
				exp = exp*10 + int64(c-'0')
			}
		}
		if token[at] == '-' {
			exp = -exp
		}
	}
	digits := make([]byte, 0, len(mantissa))
	sign := 1.0
	afterPoint := int64(0)
	for i, c := range mantissa {
		switch {
		case c == '-':
			sign = -1
		case c == '.':
			afterPoint = int64(len(mantissa) - 1 - i)
		case c != '0' || len(digits) > 0:
			digits = append(digits, c)
		}
	}
	// The value is 0.digits times ten to the power of exp.
	exp += int64(len(digits)) - afterPoint
	switch {
	case len(digits) == 0 || exp < -400:
		return 0
	case exp > 400:
		return math.Inf(int(sign))
	}
	f, _ := strconv.ParseFloat("0."+string(digits)+"e"+strconv.Itoa(int(exp)), 64)
	return sign * f
}

// AppendNumber prints a number as JSON.stringify does: ECMA-262's Number::toString, and null for what is not finite.
func AppendNumber(dst []byte, f float64) []byte {
	if f != f || f > math.MaxFloat64 || f < -math.MaxFloat64 {
		return append(dst, "null"...)
	}
	if i := int64(f); float64(i) == f && i > -1<<53 && i < 1<<53 {
		return strconv.AppendInt(dst, i, 10)
	}
	var buf [32]byte
	b := strconv.AppendFloat(buf[:0], f, 'e', -1, 64) // [-]d[.ddd]e(+|-)dd, shortest digits
	if b[0] == '-' {
		dst = append(dst, '-')
		b = b[1:]
	}
	e := bytes.IndexByte(b, 'e')
	exp, _ := strconv.Atoi(unsafe.String(&b[e+1], len(b)-e-1))
	digits := b[:1]
	if e > 1 { // close the gap of the point
		b[1] = b[0]
		digits = b[1:e]
	}
	n := exp + 1 // the decimal point stands after n digits
	k := len(digits)
	switch {
	case k <= n && n <= 21:
		dst = append(dst, digits...)
		for range n - k {
			dst = append(dst, '0')
		}
	case 0 < n && n <= 21:
		dst = append(dst, digits[:n]...)
		dst = append(dst, '.')
		dst = append(dst, digits[n:]...)
	case -6 < n && n <= 0:
		dst = append(dst, "0."...)
		for range -n {
			dst = append(dst, '0')
		}
		dst = append(dst, digits...)
	default:
		dst = append(dst, digits[0])
		if k > 1 {
			dst = append(dst, '.')
			dst = append(dst, digits[1:]...)
		}
		dst = append(dst, 'e')
		if n > 0 {
			dst = append(dst, '+')
		}
		dst = strconv.AppendInt(dst, int64(n-1), 10)
	}
	return dst
}
