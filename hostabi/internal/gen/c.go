package main

import "text/template"

func cTargets() []target { return nil }

func cFunctions() template.FuncMap { return template.FuncMap{} }
