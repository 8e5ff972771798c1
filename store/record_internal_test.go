package store

import "testing"

func TestParserStopsAtTheEnd(t *testing.T) {
	p := parser{rest: []byte("abc")}
	if b := p.bytes(2); string(b) != "ab" || p.failed {
		t.Errorf("%q, failed: %v", b, p.failed)
	}
	if b := p.bytes(2); b != nil || !p.failed {
		t.Errorf("%q beyond the end, failed: %v", b, p.failed)
	}
	if b := p.bytes(1); b != nil {
		t.Errorf("%q after a failure", b)
	}
}
