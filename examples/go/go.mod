module first-agent

go 1.24
