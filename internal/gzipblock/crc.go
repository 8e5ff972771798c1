package gzipblock

// The CRC-32 of two texts in sequence is computed from those of both, as zlib's
// crc32_combine_gen and crc32_combine_op do: CRCs are polynomials over GF(2) modulo
// the CRC's polynomial. That costs the same for texts of any length. The highest bit
// is the coefficient of x^0.

const (
	polynomial = 0xedb88320 // of IEEE's CRC-32, reversed
	one        = 1 << 31    // x^0
)

// multiply returns a product.
func multiply(a, b uint32) (product uint32) {
	for bit := uint32(one); a != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
			a &^= bit
		}
		b = b>>1 ^ polynomial&-(b&1) // times x
	}
	return product
}

// squares[k] is x^(2^k).
var squares = func() (s [64]uint32) {
	s[0] = one >> 1
	for k := 1; k < len(s); k++ {
		s[k] = multiply(s[k-1], s[k-1])
	}
	return s
}()

// shiftBy returns x^(8n). It shifts a CRC by n bytes.
func shiftBy(n uint64) uint32 {
	shift := uint32(one)
	for k := 3; n != 0; k++ {
		if n&1 != 0 {
			shift = multiply(squares[k], shift)
		}
		n >>= 1
	}
	return shift
}
