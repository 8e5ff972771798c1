package template

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// JSONField returns the value of a placeholder {json.PATH} in a JSON document: a
// string, or a number with all its digits. It fails if the document has none there,
// or an empty one. name is the placeholder's, with json.
func JSONField(document []byte, name string) (string, error) {
	field := gjson.GetBytes(document, strings.TrimPrefix(name, "json."))
	if field.IsObject() || field.IsArray() || field.String() == "" {
		return "", fmt.Errorf("{%s} is no string or number", name)
	}
	if field.Type == gjson.Number {
		return field.Raw, nil // keeps all digits
	}
	return field.String(), nil
}
