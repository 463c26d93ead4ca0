"""The measurements behind `make bench`: a module a question, each with its side-by-side peer."""
