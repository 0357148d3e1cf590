package main

import "text/template"

func rustTargets() []target { return nil }

func rustFunctions() template.FuncMap { return template.FuncMap{} }
