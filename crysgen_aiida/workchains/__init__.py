"""Work chains: a restart chain around every verb, and the lines made of them."""
