"""The providers' own SDKs: what they send and understand, beside what we do."""
