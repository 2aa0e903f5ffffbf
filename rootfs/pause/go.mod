module gateway.local/pause

go 1.26
