"""The frozen base against what a team would train instead on the same half: `driftline bases`.

`presets` names the bases that the lab compares, `baselines` the models beside them, made of `columns` and `deepfm`;
`command` trains all of them on the first half of a stream, tries them frozen on the live half and prints the table.
"""
