package main

import "text/template"

func assemblyscriptTargets() []target { return nil }

func assemblyscriptFunctions() template.FuncMap { return template.FuncMap{} }
