package diff

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// orders returns a list of about size bytes, in which one price has the value.
func orders(size int, value string) []byte {
	var list []string
	for length := 0; length < size; {
		i := len(list)
		price := fmt.Sprintf("%d.90", i%1000)
		if i == 3 {
			price = value
		}
		item := fmt.Sprintf(`{"id":%d,"status":"shipped","customer":{"name":"Müller & Söhne","city":"Köln"},"price":%s,"tags":["new","sale"],"note":null}`, i, price)
		list, length = append(list, item), length+len(item)+1
	}
	return []byte("[" + strings.Join(list, ",") + "]")
}

var sizes = map[string]int{"1KiB": 1 << 10, "100KiB": 100 << 10}

func BenchmarkParse(b *testing.B) {
	for name, size := range sizes {
		doc := orders(size, "1")
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEvents(b *testing.B) {
	modes := [][2]string{{"full", ""}, {"patch", ""}, {"merge", ""}, {"items", "id"}, {"jq", `{event: "price", data: [.new[3].price, .old[3].price]}`}}
	for name, size := range sizes {
		from, to := parse(b, string(orders(size, "1"))), parse(b, string(orders(size, "2")))
		for _, named := range modes {
			if named[0] == "merge" { // a merge patch can't change an item of a list
				from, to = byID(b, from), byID(b, to)
			}
			benchmarkEvents(b, name, mode(b, named[0], named[1]), from, to)
			if named[0] == "merge" {
				from, to = parse(b, string(orders(size, "1"))), parse(b, string(orders(size, "2")))
			}
		}
	}
}

func benchmarkEvents(b *testing.B, name string, m *Mode, from, to *Document) {
	b.Run(m.name+"/"+name, func(b *testing.B) {
		b.ReportAllocs()
		sent := 0
		for b.Loop() {
			events, err := m.Events(b.Context(), from, to)
			if err != nil {
				b.Fatal(err)
			}
			sent = 0
			for _, e := range events {
				sent += len(e.Data)
			}
		}
		b.ReportMetric(float64(sent), "sent-B")
		b.ReportMetric(100-100*float64(sent)/float64(len(to.Bytes())), "saved-%")
	})
}

// byID turns a list of items into an object.
func byID(b *testing.B, list *Document) *Document {
	var items []json.RawMessage
	if err := json.Unmarshal(list.Bytes(), &items); err != nil {
		b.Fatal(err)
	}
	members := make([]string, len(items))
	for i, item := range items {
		members[i] = fmt.Sprintf(`"%d":%s`, i, item)
	}
	return parse(b, "{"+strings.Join(members, ",")+"}")
}
