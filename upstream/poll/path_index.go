package poll

import (
	"slices"
	"strings"
)

// pathIndex finds views by host and path. Paths below another one follow it, so
// that a write needs no look at other views.
type pathIndex []pathNode

type pathNode struct {
	key   string
	views []*view
}

// pathKey returns the key of a path. It replaces slashes by a byte that sorts
// before all others: otherwise /a-b would stand between /a and /a/b.
func pathKey(hostname, path string) string {
	return hostname + strings.ReplaceAll(trimFormat(strings.TrimSuffix(path, "/")), "/", "\x00")
}

// formats are the suffixes by which a path names the format of a document: Rails
// serves /items.json, and what is below it at /items/1.json.
var formats = setOf("json", "jsonld", "geojson", "jsonp", "xml", "html", "htm", "xhtml", "csv", "tsv", "txt", "text", "md", "yaml", "yml", "atom", "rss", "rdf", "ics", "vcf", "js")

// trimFormat returns a path without the suffix that names a format.
func trimFormat(path string) string {
	dot := strings.LastIndexByte(path, '.')
	if dot > 0 && path[dot-1] != '/' && formats[strings.ToLower(path[dot+1:])] {
		return path[:dot]
	}
	return path
}

// find returns where a key is, or would be.
func (p pathIndex) find(key string) (int, bool) {
	return slices.BinarySearchFunc(p, key, func(at pathNode, key string) int { return strings.Compare(at.key, key) })
}

func (p *pathIndex) add(v *view) {
	key := pathKey(v.target.hostname, v.target.path)
	i, ok := p.find(key)
	if !ok {
		*p = slices.Insert(*p, i, pathNode{key: key})
	}
	(*p)[i].views = append((*p)[i].views, v)
}

func (p *pathIndex) remove(v *view) {
	i, _ := p.find(pathKey(v.target.hostname, v.target.path))
	at := &(*p)[i]
	at.views = slices.DeleteFunc(at.views, func(other *view) bool { return other == v })
	if len(at.views) == 0 {
		*p = slices.Delete(*p, i, i+1)
	}
}

// related calls f for the views of a path, of its parents and of its children.
// Nothing counts as a child of the root: a write to "/" would concern
// everything.
func (p pathIndex) related(hostname, path string, f func(*view)) {
	key := pathKey(hostname, path)
	for end := len(hostname); ; end++ {
		next := strings.IndexByte(key[end:], 0)
		if next < 0 {
			break
		}
		end += next
		p.at(key[:end], f)
	}
	if key == hostname {
		p.at(key, f)
		return
	}
	i, _ := p.find(key)
	for ; i < len(p) && (p[i].key == key || strings.HasPrefix(p[i].key, key+"\x00")); i++ {
		each(p[i].views, f)
	}
}

// at calls f for the views at a key.
func (p pathIndex) at(key string, f func(*view)) {
	if i, ok := p.find(key); ok {
		each(p[i].views, f)
	}
}

func each(views []*view, f func(*view)) {
	for _, v := range views {
		f(v)
	}
}
