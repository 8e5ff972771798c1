package forward

// Encode and DecodeFrame are what keeps a request.
var (
	Encode      = encode
	DecodeFrame = decodeFrame
)
