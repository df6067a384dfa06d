package strictyaml

// Shaped is implemented by types that decode themselves, for the schema of the
// files: Shape returns what may stand there, as values of types that decode in
// the same way. One that is a [Word] stands for itself. A pointer need not point
// to anything: Shape is called on the zero value.
type Shaped interface {
	Shape() []any
}

// Word is a string that has to be written as it is.
type Word string

// Anything stands for any value.
type Anything struct{}
