package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// mutant is one condition or call that can be broken.
type mutant struct {
	// name identifies the mutant as long as its function and the broken text
	// stay the same: "hub/hub.go Hub.Resolve: never err != nil". A second one
	// of the same name ends in " #2".
	name   string
	file   string
	line   int
	number int // in its package, from 1
}

// site is the text of one mutant in its file.
type site struct {
	start, end int
	// wrap returns the text that behaves as the mutant while on is true, and
	// otherwise as the original. render returns the text of a part.
	wrap func(on string, render func(start, end int) string) string
	on   string
}

// finder collects the mutants of one file.
type finder struct {
	filename string
	src      []byte
	files    *token.FileSet
	function string
	before   int            // mutants in the package's other files
	seen     map[string]int // how many mutants have a name
	found    []mutant
	sites    []site
}

// find returns the mutants of a file, and the file's source with all of them in
// it: the one whose number mutantIs confirms is broken. before is the number of
// mutants in the package's other files.
func find(filename string, src []byte, before int) ([]mutant, []byte, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, filename, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	f := &finder{filename: filename, src: src, files: files, before: before, seen: make(map[string]int)}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
			f.function = functionName(fn)
			ast.Inspect(fn.Body, f.visit)
		}
	}
	// The outer one first. Of two that are the same text, the first found is the outer one.
	slices.SortStableFunc(f.sites, func(a, b site) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end)) })
	return f.found, []byte(f.render(0, 0, len(src))), nil
}

// render returns a part of the source with the sites in it, from the first one on.
func (f *finder) render(first, start, end int) string {
	var b strings.Builder
	for i := first; i < len(f.sites); i++ {
		s := f.sites[i]
		if s.start < start || s.end > end {
			continue
		}
		b.Write(f.src[start:s.start])
		b.WriteString(s.wrap(s.on, func(start, end int) string { return f.render(i+1, start, end) }))
		start = s.end
	}
	b.Write(f.src[start:end])
	return b.String()
}

// functionName returns a function's name, or that of a method with its type.
func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	for {
		switch of := t.(type) {
		case *ast.StarExpr:
			t = of.X
		case *ast.IndexExpr:
			t = of.X
		case *ast.Ident:
			return of.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

func (f *finder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IfStmt:
		f.negate(n.Cond)
		if n.Else == nil && leaves(n.Body) {
			f.ignore(n.Cond)
		}
	case *ast.SwitchStmt:
		if n.Tag == nil {
			f.cases(n.Body)
		}
	case *ast.BinaryExpr:
		f.exchange(n)
	case *ast.ExprStmt:
		f.remove(n, n.X, "func() { if !%s { %s } }()") // a call, which may end a for clause
	case *ast.DeferStmt:
		f.remove(n, n.Call, "if !%s { %s }")
	}
	return true
}

// leaves reports whether a block ends by leaving its function or loop: the if
// before it is a guard.
func leaves(b *ast.BlockStmt) bool {
	if len(b.List) == 0 {
		return false
	}
	switch b.List[len(b.List)-1].(type) {
	case *ast.ReturnStmt, *ast.BranchStmt:
		return true
	}
	return false
}

// cases breaks the conditions of a switch without a tag.
func (f *finder) cases(body *ast.BlockStmt) {
	for _, clause := range body.List {
		for _, cond := range clause.(*ast.CaseClause).List {
			f.negate(cond)
			f.ignore(cond)
		}
	}
}

func (f *finder) negate(cond ast.Expr) { f.wrap(cond, "not", "%s != (%s)") }

func (f *finder) ignore(cond ast.Expr) { f.wrap(cond, "never", "!%s && (%s)") }

var operators = map[token.Token]string{
	token.LAND: "||", token.LOR: "&&",
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
}

// exchange exchanges an operator for its neighbor. Either is evaluated once.
func (f *finder) exchange(e *ast.BinaryExpr) {
	other, ok := operators[e.Op]
	if !ok {
		return
	}
	f.add(e, e.Op.String()+" to "+other, func(on string, render func(start, end int) string) string {
		x, y := render(f.offset(e.X.Pos()), f.offset(e.X.End())), render(f.offset(e.Y.Pos()), f.offset(e.Y.End()))
		return fmt.Sprintf("(!%[1]s && ((%[2]s) %[3]s (%[5]s)) || %[1]s && ((%[2]s) %[4]s (%[5]s)))", on, x, e.Op, other, y)
	})
}

// remove removes a statement that is a call. Without its half of a lock, every
// test would hang.
func (f *finder) remove(statement ast.Node, call ast.Expr, format string) {
	c, ok := call.(*ast.CallExpr)
	if !ok || slices.Contains([]string{"panic", "Lock", "Unlock", "RLock", "RUnlock"}, calledName(c)) {
		return
	}
	f.wrap(statement, "without", format)
}

func calledName(c *ast.CallExpr) string {
	switch fun := c.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

// wrap adds a mutant by a format of its switch and of the node's text.
func (f *finder) wrap(n ast.Node, kind, format string) {
	f.add(n, kind, func(on string, render func(start, end int) string) string {
		return fmt.Sprintf(format, on, render(f.offset(n.Pos()), f.offset(n.End())))
	})
}

func (f *finder) add(n ast.Node, kind string, wrap func(on string, render func(start, end int) string) string) {
	start, end := f.offset(n.Pos()), f.offset(n.End())
	text := strings.Join(strings.Fields(string(f.src[start:end])), " ")
	name := fmt.Sprintf("%s %s: %s %s", f.filename, f.function, kind, text)
	f.seen[name]++
	if again := f.seen[name]; again > 1 {
		name = fmt.Sprintf("%s #%d", name, again)
	}
	number := f.before + len(f.found) + 1
	f.found = append(f.found, mutant{name: name, file: f.filename, line: f.files.Position(n.Pos()).Line, number: number})
	f.sites = append(f.sites, site{start: start, end: end, wrap: wrap, on: fmt.Sprintf("mutantIs(%d)", number)})
}

func (f *finder) offset(p token.Pos) int { return f.files.Position(p).Offset }
