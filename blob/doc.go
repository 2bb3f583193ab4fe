// Package blob keeps blobs: files named by the SHA-256 of their bytes.
package blob
