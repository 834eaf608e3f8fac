-- Reads the profiles in a file that `bodies` wrote, in its (random) order; each thread has its own slice.
--   wrk -t2 -c256 -d8s -s bench/wrk/reads.lua http://127.0.0.1:8080 -- target/bench/load/iccids $ESIM_STATUS_API_KEYS 2
local started = 0

function setup(thread)
  thread:set("number", started)
  started = started + 1
end

function init(args)
  local threads = tonumber(args[3] or "1")
  local iccids = {}
  for iccid in io.lines(args[1]) do
    iccids[#iccids + 1] = iccid
  end
  local each = math.floor(#iccids / threads)
  local headers = { Authorization = "Bearer " .. args[2] }
  requests = {}
  for place = number * each + 1, (number + 1) * each do
    requests[#requests + 1] = wrk.format("GET", "/v1/profiles/" .. iccids[place], headers)
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
