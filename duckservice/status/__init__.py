"""What operators see, as JSON has it: providers, breakers, performance, money, the store."""
