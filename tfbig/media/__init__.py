"""What people give a model, one file per medium: picture, audio, video, text, sequence, state.

A medium is configuration and builder at once, as components are. A task makes one of what its data
says, and writes nothing of it again:

    picture = Picture(shape=(28, 28, 1))
    Picture.find(words)       the files that a user means; refuses what is not there, without
                              TensorFlow
    picture.take(inputs)      files, folders, arrays or stdin as raw examples; see `Taken`
    picture.served(name)      what a served model receives, as a tensor specification
    picture.decode(served)    in a graph: what is served to raw examples
    picture.encode(values)    on the host: raw examples to what is served, the reverse of `decode`
    picture.panel(title, values, captions)    raw examples as a panel of a report
    picture.form()            what the server's page must know to offer a widget

Raw examples of any length (recordings, sequences) are decoded to (padded [b, length], count [b]),
and encoded from a list of arrays, or from these two.

`medium` is its name in artefact.json, by which the page chooses its widget.
"""
