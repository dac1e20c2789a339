"""Benchmarks: codecs x pictures x qualities -> rows of figures, rate-distortion curves, tables and an HTML page.

In: pictures and the codecs to compare. Out: JSON, CSV, text tables or one HTML page.
Read `study` first: it runs a whole comparison. `lineup` selects the codecs, `peers` implements them and `results`
defines the rows; `match` is a target that all codecs meet; `lossless_peers` are codecs that lose nothing. `report`,
`documents` (JSON, CSV) and `html` show the rows, beside published curves (`published`). `compare` measures two
pictures, and `compare_html` shows them; `page` and `viewer` are the parts of both pages. `demo` measures one bundled
picture. `code_maps` draws the codebooks of a model and the codes of a picture.
"""
