"""The stream processor: the Faust shell around the groups' machines, which feeds records, commits and recovers."""
