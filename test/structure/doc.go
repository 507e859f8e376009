// Package structure holds the tests that keep the house in order: imports run
// one way, every package says what it is, goroutines have an owner, and rooms
// stay small. They read the source and run nothing of it.
package structure
