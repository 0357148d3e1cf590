package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing/fstest"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// deployerChecks are about plugins of the point deployer.
func deployerChecks() []check {
	return at(hostabi.PointDeployer,
		core("deployer/typical-file", "cleat_deployer_render",
			"The hook decides about a file it is offered, or leaves it to others.", asked(), checkTypicalFile),
		core("deployer/garbage", "render_yaml",
			"A file that makes no sense is refused with a reason or left to others; it is no reason to crash.", []string{"deployer/typical-file"}, checkGarbage),
		core("deployer/unicode", "Values",
			"A file is any UTF-8 text, with any line ends and with a byte order mark.", []string{"deployer/typical-file"}, checkFileUnicode),
		core("deployer/many-documents", "cleat_deployer_render",
			"A file can hold a thousand objects.", []string{"deployer/typical-file", "core/buffer-protocol"}, checkManyDocuments),
		core("deployer/variables", "cleat_deployer_render",
			"A file can name variables that do not exist, and there can be none at all.", []string{"deployer/typical-file"}, checkVariables),
		core("deployer/kinds", "cleat_deployer_render",
			"The hook bears every kind of input its manifest claims: files, archives, directories, and kinds of a newer host.",
			[]string{"deployer/typical-file"}, checkKinds),
		core("deployer/deterministic", "Rules",
			"Two new instances make the same of the same file, byte for byte.", []string{"deployer/typical-file"}, checkFilesDeterministic),
	)
}

// claims are what the plugin wants to be offered.
func (s *subject) claims() hostabi.DeployerManifest {
	if s.manifest.Deployer != nil {
		return *s.manifest.Deployer
	}
	return hostabi.DefaultDeployer()
}

// deploy is a text file the plugin is offered by the first of its claims; if it
// claims none, a directory or an archive.
func (s *subject) deploy(content string) extension.DeployInput {
	claims := s.claims()
	in := extension.DeployInput{DeployRequest: hostabi.DeployRequest{Addon: "conformance", Content: content,
		Variables: map[string]string{"CLUSTER_DNS": "10.43.0.10", "CLUSTER_DOMAIN": "cluster.local"}, Kind: hostabi.DeployKindFile}}
	switch {
	case len(claims.Files) > 0:
		in.File = named(claims.Files[0])
	case len(claims.Directories) > 0:
		return directory(in, named(claims.Directories[0]))
	default:
		return archive(in, named(claims.Archives[0]))
	}
	return in
}

// directory is a directory with one file, archive one file that is no text.
func directory(in extension.DeployInput, name string) extension.DeployInput {
	content := in.Content
	in.Kind, in.File, in.Content, in.Files = hostabi.DeployKindDirectory, "conformance", "", []string{name}
	in.Tree = fstest.MapFS{name: {Data: []byte(content)}}
	return in
}

func archive(in extension.DeployInput, name string) extension.DeployInput {
	content := in.Content
	in.Kind, in.File, in.Content = hostabi.DeployKindArchive, name, ""
	in.Tree = fstest.MapFS{name: {Data: []byte(content)}}
	return in
}

// named is a name that fits a pattern.
func named(pattern string) string { return strings.Replace(pattern, "*", "conformance", 1) }

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\ndata:\n  key: value\n"
}

// typicalFiles are what a manifests directory has: the files of the cases, then
// one for each claim.
func (s *subject) typicalFiles() []extension.DeployInput {
	var all []extension.DeployInput
	for _, c := range s.cases {
		if c.Render != nil && len(all) < maxCasesAsked {
			all = append(all, extension.DeployInput{DeployRequest: *c.Render})
		}
	}
	for _, pattern := range s.claims().Files {
		in := s.deploy(configMap("conformance"))
		in.File = named(pattern)
		if len(all) < 2*maxBases {
			all = append(all, in)
		}
	}
	if len(all) == 0 {
		all = append(all, s.deploy(configMap("conformance")))
	}
	return all
}

// bear checks that the plugin answers every input, or says why it cannot.
func (s *subject) bear(ctx context.Context, question string, all []extension.DeployInput) (finding, error) {
	return s.share(ctx, func(g *guest) (finding, error) {
		for _, in := range all {
			a, err := g.render(ctx, question, in)
			if err != nil {
				return finding{}, err
			}
			if a.broke() {
				return failed("%s", a)
			}
		}
		return passed("answered %d inputs", len(all))
	})
}

// filled are the typical files with other contents.
func (s *subject) filled(contents ...string) []extension.DeployInput {
	var all []extension.DeployInput
	for _, in := range s.typicalFiles() {
		if in.Kind == hostabi.DeployKindDirectory || in.Kind == hostabi.DeployKindArchive {
			continue
		}
		for _, content := range contents {
			in.Content = content
			all = append(all, in)
		}
	}
	return all
}

func checkTypicalFile(ctx context.Context, s *subject) (finding, error) {
	return s.bear(ctx, "a typical file", s.typicalFiles())
}

// garbage is the question that well-formed objects cannot be expected of.
const garbage = "garbage"

func checkGarbage(ctx context.Context, s *subject) (finding, error) {
	all := s.filled("a: [unclosed", "\t", "{", "}", "--- ---\n...\n", "42", "- a\n- b\n", "just a text", "a: &a [*a]", "kind: {}\n", "{\"kind\": 1, \"metadata\": []}", strings.Repeat("[", 2000))
	if len(all) == 0 {
		return inapplicable("is offered no text files")
	}
	return s.bear(ctx, garbage, all)
}

func checkFileUnicode(ctx context.Context, s *subject) (finding, error) {
	text := configMap("conformance") + "  other: \"\u00e4\u65e5\U0001f40b\"\n"
	all := s.filled(text, "\ufeff"+text, strings.ReplaceAll(text, "\n", "\r\n"), "# \u00e4\n"+text)
	if len(all) == 0 {
		return inapplicable("is offered no text files")
	}
	return s.bear(ctx, "a file with other letters and line ends", all)
}

func checkManyDocuments(ctx context.Context, s *subject) (finding, error) {
	var content strings.Builder
	for n := range hugeList {
		content.WriteString(configMap(fmt.Sprintf("conformance-%d", n)) + "---\n")
	}
	all := s.filled(content.String())
	if len(all) == 0 {
		return inapplicable("is offered no text files")
	}
	return s.bear(ctx, fmt.Sprintf("a file of %d objects", hugeList), all)
}

func checkVariables(ctx context.Context, s *subject) (finding, error) {
	text := configMap("conformance") + "  variable: \"%{NO_SUCH_VARIABLE}% %{CLUSTER_DNS}% %{ %{}%\"\n"
	all := s.filled(text)
	if len(all) == 0 {
		return inapplicable("is offered no text files")
	}
	for _, in := range all[:len(all):len(all)] {
		in.Variables = nil
		all = append(all, in)
	}
	return s.bear(ctx, "variables", all)
}

// checkKinds asks about what is no text file. The host offers only what the
// manifest claims; a newer host has kinds this one does not know.
func checkKinds(ctx context.Context, s *subject) (finding, error) {
	var all []extension.DeployInput
	base := s.deploy(configMap("conformance"))
	base.Content = "not what the name says"
	for _, pattern := range s.claims().Archives {
		all = append(all, archive(base, named(pattern)))
	}
	for _, pattern := range s.claims().Directories {
		all = append(all, directory(base, named(pattern)))
	}
	for _, in := range s.filled(configMap("conformance")) {
		older, newer := in, in
		older.Kind, older.Files, older.Companions = "", nil, nil
		newer.Kind = "conformance"
		all = append(all, older, newer)
	}
	return s.bear(ctx, "another kind of input", all)
}

func checkFilesDeterministic(ctx context.Context, s *subject) (finding, error) {
	return s.twice(ctx, func(g *guest) (all []answer, err error) {
		for _, in := range s.typicalFiles() {
			a, err := g.render(ctx, "a typical file", in)
			if err != nil {
				return nil, err
			}
			all = append(all, a)
		}
		return all, nil
	})
}
