module gateway/vm/tsckhz

go 1.26
