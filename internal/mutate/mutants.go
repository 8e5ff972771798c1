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

// mutant is a source file with one condition or one call broken.
type mutant struct {
	// name identifies the mutant as long as its function and the broken text
	// stay the same: "hub.go Hub.Resolve: never err != nil". A second one of
	// the same name ends in " #2".
	name        string
	line        int
	start, end  int    // the bytes of the file that the mutant replaces
	replacement string // of the same number of lines
}

// apply returns the mutant's source.
func (m mutant) apply(src []byte) []byte {
	return slices.Concat(src[:m.start], []byte(m.replacement), src[m.end:])
}

// mutants returns the mutants of a file, in the order of the source.
func mutants(filename string, src []byte) ([]mutant, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, filename, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &finder{filename: filename, src: src, files: files, seen: make(map[string]int)}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
			f.function = functionName(fn)
			ast.Inspect(fn.Body, f.visit)
		}
	}
	slices.SortStableFunc(f.found, func(a, b mutant) int { return cmp.Compare(a.start, b.start) })
	return f.found, nil
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

// finder collects the mutants of one file.
type finder struct {
	filename string
	src      []byte
	files    *token.FileSet
	function string
	seen     map[string]int // how many mutants have a name
	found    []mutant
}

func (f *finder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IfStmt:
		f.negate(n.Cond)
		if n.Else == nil && leaves(n.Body) {
			f.replace(n.Cond, "never", "false && (%s)")
		}
	case *ast.SwitchStmt:
		if n.Tag == nil {
			f.cases(n.Body)
		}
	case *ast.BinaryExpr:
		f.operator(n)
	case *ast.ExprStmt:
		f.remove(n, n.X)
	case *ast.DeferStmt:
		f.remove(n, n.Call)
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

func (f *finder) negate(cond ast.Expr) { f.replace(cond, "not", "!(%s)") }

// cases breaks the conditions of a switch without a tag.
func (f *finder) cases(body *ast.BlockStmt) {
	for _, clause := range body.List {
		for _, cond := range clause.(*ast.CaseClause).List {
			f.negate(cond)
			f.replace(cond, "never", "false && (%s)")
		}
	}
}

var operators = map[token.Token]string{
	token.LAND: "||", token.LOR: "&&",
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
}

// operator exchanges an operator for its neighbor.
func (f *finder) operator(e *ast.BinaryExpr) {
	if other, ok := operators[e.Op]; ok {
		start := f.offset(e.OpPos)
		f.add(e, e.Op.String()+" to "+other, start, start+len(e.Op.String()), other)
	}
}

// remove removes a statement that is a call. Without a panic a function doesn't
// compile, and without its half of a lock every test of it hangs.
func (f *finder) remove(statement ast.Node, call ast.Expr) {
	c, ok := call.(*ast.CallExpr)
	if !ok || slices.Contains([]string{"panic", "Lock", "Unlock", "RLock", "RUnlock"}, calledName(c)) {
		return
	}
	lines := strings.Repeat("\n", strings.Count(f.text(statement), "\n"))
	f.add(statement, "without", f.offset(statement.Pos()), f.offset(statement.End()), lines)
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

// replace puts an expression into a format.
func (f *finder) replace(e ast.Expr, kind, format string) {
	f.add(e, kind, f.offset(e.Pos()), f.offset(e.End()), fmt.Sprintf(format, f.text(e)))
}

// add adds a mutant of a node, which replaces the bytes from start to end.
func (f *finder) add(n ast.Node, kind string, start, end int, replacement string) {
	m := mutant{
		name:        fmt.Sprintf("%s %s: %s %s", f.filename, f.function, kind, strings.Join(strings.Fields(f.text(n)), " ")),
		line:        f.files.Position(n.Pos()).Line,
		start:       start,
		end:         end,
		replacement: replacement,
	}
	f.seen[m.name]++
	if again := f.seen[m.name]; again > 1 {
		m.name = fmt.Sprintf("%s #%d", m.name, again)
	}
	f.found = append(f.found, m)
}

func (f *finder) text(n ast.Node) string { return string(f.src[f.offset(n.Pos()):f.offset(n.End())]) }

func (f *finder) offset(p token.Pos) int { return f.files.Position(p).Offset }
