-- Sends the signed webhooks in a file that `bodies` wrote, in its order; each thread has its own slice.
--   wrk -t2 -c256 -d8s -s bench/wrk/webhooks.lua http://127.0.0.1:8080 -- target/bench/load/deliveries 2
-- Two optional arguments follow the number of threads: the index of the first webhook, and the max number of webhooks.
local started = 0

function setup(thread)
  thread:set("number", started)
  started = started + 1
end

-- All requests are generated here, before the clock starts, so that a request then costs only a table lookup.
function init(args)
  local threads, first, most = tonumber(args[2] or 1), tonumber(args[3] or 0), tonumber(args[4] or math.huge)
  local lines = {}
  local file = assert(io.open(args[1], "r"))
  local path, header = file:read("*l"), file:read("*l")
  for line in file:lines() do
    lines[#lines + 1] = line
  end
  file:close()
  local each = math.floor(math.min(#lines, most) / threads)
  requests = {}
  for place = 0, each - 1 do
    local line = lines[(first + number * each + place) % #lines + 1]
    local proof, body = line:match("^(%S+) (.*)$")
    local headers = { ["Content-Type"] = "application/json", [header] = proof }
    requests[#requests + 1] = wrk.format("POST", path, headers, body)
  end
  sent = 0
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("requests=%d microseconds=%d refused=%d broken=%d\n", summary.requests,
    summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
