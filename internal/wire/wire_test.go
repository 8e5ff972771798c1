package wire

import "testing"

func TestReaderStopsAtTheEnd(t *testing.T) {
	r := Reader{Rest: []byte("abc")}
	if b := r.Bytes(2); string(b) != "ab" || r.Failed {
		t.Errorf("%q, failed: %v", b, r.Failed)
	}
	if b := r.Bytes(2); b != nil || !r.Failed {
		t.Errorf("%q beyond the end, failed: %v", b, r.Failed)
	}
	if b := r.Bytes(1); b != nil {
		t.Errorf("%q after a failure", b)
	}
}
