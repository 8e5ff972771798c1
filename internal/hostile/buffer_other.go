//go:build !unix

package hostile

func setReceiveBuffer(uintptr, int) {}
