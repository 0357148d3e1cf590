package render

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// checkSchemas holds a chart's values to its values.schema.json, and those of
// its subcharts to theirs.
func checkSchemas(c *chart.Chart, values map[string]any) error {
	if c.Schema != nil {
		if err := checkSchema(c.Schema, values); err != nil {
			return fmt.Errorf("values of chart %s: %w", c.Name(), err)
		}
	}
	for _, d := range c.Dependencies() {
		below, ok := values[d.Name()]
		if !ok || below == nil {
			continue
		}
		table, ok := below.(map[string]any)
		if !ok {
			return fmt.Errorf("values of chart %s: %s is for the chart of that name and must be an object", c.Name(), d.Name())
		}
		if err := checkSchemas(d, table); err != nil {
			return err
		}
	}
	return nil
}

func checkSchema(text []byte, values map[string]any) error {
	const place = "mem:///values.schema.json"
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noSchemas{})
	if err := compiler.AddResource(place, document); err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	schema, err := compiler.Compile(place)
	if err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	err = schema.Validate(values)
	if invalid := (*jsonschema.ValidationError)(nil); errors.As(err, &invalid) {
		_, why, _ := strings.Cut(invalid.Error(), "\n")
		return errors.New(why)
	}
	return err
}

// noSchemas answers a schema's references to other files and URLs.
type noSchemas struct{}

func (noSchemas) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s: only references inside the file are followed", url)
}
