package forward

// Encode and DecodeFrame encode and decode a stored request.
var (
	Encode      = encode
	DecodeFrame = decodeFrame
)
