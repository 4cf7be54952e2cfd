"""The command line. In: arguments. Out: tables or one JSON object on stdout; progress and errors on stderr."""
