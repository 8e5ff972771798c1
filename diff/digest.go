package diff

import "hash/maphash"

// digest identifies a value: equal values have equal digests, and other values
// have others, but for a negligible chance. Digests make a comparison of two
// values, however large, as cheap as one of two numbers.
type digest [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func digestOf(b []byte) digest {
	return digest{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
}

// combine depends on the order: a.combine(b) differs from b.combine(a).
func (d digest) combine(other digest) digest {
	pair := [2]digest{d, other}
	return digest{maphash.Comparable(seeds[0], pair), maphash.Comparable(seeds[1], pair)}
}

// add doesn't depend on the order.
func (d digest) add(other digest) digest { return digest{d[0] + other[0], d[1] + other[1]} }
