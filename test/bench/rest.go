package main

// restTests start systems of their own.
var restTests []test
