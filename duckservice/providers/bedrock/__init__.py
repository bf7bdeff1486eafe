"""AWS Bedrock's own wire format: Converse, its binary event stream, /invoke for vectors."""
