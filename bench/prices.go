package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// prices is a backend with one document, a price table in which one price
// changes.
type prices struct {
	requests atomic.Int64
	document atomic.Pointer[priceTable]
	changes  changeLog
}

// priceTable is one version of the document.
type priceTable struct {
	body []byte
	etag string
}

type article struct {
	SKU      string `json:"sku"`
	Name     string `json:"name"`
	Price    string `json:"price"`
	Currency string `json:"currency"`
	Stock    int    `json:"stock"`
}

var wares = [...]string{"Espresso cup, 80 ml", "Thermal mug, 350 ml", "Filter papers, 100 pieces", "Hand grinder, steel", "Kettle with a long spout"}

// newPriceTable returns version n. The price of one article encodes the version:
// it is the only text that begins with a 7.
func newPriceTable(n int) *priceTable {
	articles := make([]article, 104)
	for i := range articles {
		articles[i] = article{
			SKU: fmt.Sprintf("C-%05d", 10007*(i+1)%99991), Name: wares[i%len(wares)],
			Price: fmt.Sprintf("%d.%02d", 100+7919*i%500, 31*i%100), Currency: "EUR", Stock: 37 * i % 211,
		}
	}
	articles[len(articles)/2].Price = fmt.Sprintf("7%03d.%02d", n/100, n%100)
	body, err := json.Marshal(map[string]any{"updated": "today", "articles": articles})
	if err != nil {
		panic(err)
	}
	return &priceTable{body: body, etag: fmt.Sprintf(`"v%d"`, n)}
}

// versionIn returns the version in a document or in a patch.
func versionIn(data []byte) (int, bool) {
	_, rest, found := bytes.Cut(data, []byte(`:"7`))
	if !found || len(rest) < len("000.00") {
		return 0, false
	}
	whole, err := strconv.Atoi(string(rest[:3]))
	part, err2 := strconv.Atoi(string(rest[4:6]))
	return whole*100 + part, err == nil && err2 == nil
}

func (p *prices) set(n int) { p.document.Store(newPriceTable(n)) }

func (p *prices) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.requests.Add(1)
	if r.Method == http.MethodPut {
		p.put(w, r)
		return
	}
	document := p.document.Load()
	w.Header().Set("ETag", document.etag)
	if r.Header.Get("If-None-Match") == document.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document.body)
}

func (p *prices) put(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(io.LimitReader(r.Body, 10))
	if err != nil {
		return
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		http.Error(w, "want a number", http.StatusBadRequest)
		return
	}
	p.set(n)
	w.WriteHeader(http.StatusNoContent)
}

// changeLog records the times of changes.
type changeLog struct {
	mu sync.Mutex
	at []time.Time // of version 1, 2, …
}

// next records a change and returns its version. Call it before the change.
func (b *changeLog) next() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = append(b.at, time.Now())
	return len(b.at)
}

func (b *changeLog) since(n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Since(b.at[n-1])
}
