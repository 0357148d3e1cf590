// Command pack writes the archives that are embedded in cleat. What it writes
// depends on nothing but the bytes and paths of its inputs: entries are
// sorted, owners are root, times are the epoch, modes are said and not read
// from the disk.
//
//	pack files  -o bin.tar.zst NAME...                 executables, as bin/<base name>
//	pack sources -o sdk.tar.zst -from DIR NAME...      files, under their names below DIR
//	pack images -o images.tar[.zst] -from DIR SPEC...  container images, as an OCI layout;
//	                                                   -quick for those that are not shipped
//
// Beside an archive it writes <archive>.sha256, the digest in hex.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "pack:", err)
		}
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	if len(args) == 0 {
		return errors.New("say what to pack: files, sources or images")
	}
	flags := flag.NewFlagSet("pack "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("o", "", "`file` to write")
	from := flags.String("from", ".", "`directory` in which the files named by image specs or sources are found")
	quick := flags.Bool("quick", false, "compress the layers of images fast, not well")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if *out == "" || flags.NArg() == 0 {
		return fmt.Errorf("%s: an output (-o) and at least one input are needed", args[0])
	}

	var (
		archive *tree
		err     error
		level   = densest
	)
	switch args[0] {
	case "files":
		archive, err = executables(flags.Args())
	case "sources":
		archive, err = sources(*from, flags.Args())
	case "images":
		layers := densest
		if *quick {
			layers = fastest
		}
		archive, err = layout(*from, layers, flags.Args())
		level = fastest // the layers inside are compressed already
	default:
		return fmt.Errorf("%q is not a thing to pack: use files, sources or images", args[0])
	}
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return writeOutput(*out, level, archive)
}
