"""OTP-style supervision for trio."""
