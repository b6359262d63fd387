// Package e2e holds no code but tests: they run the weir binary in network namespaces, against truths from outside it.
package e2e
