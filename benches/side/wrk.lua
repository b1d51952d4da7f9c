-- New bodies and keys for each request; `wrk … -- PREFIX KEYED IDS`, IDS a file of ids to read, or "".
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  prefix, keyed, number, ids = args[1] .. "-t" .. id, args[2] == "yes", 0, nil
  if args[3] and args[3] ~= "" then
    ids = {}
    for line in io.lines(args[3]) do ids[#ids + 1] = line end
  end
  headers = { ["Authorization"] = "Bearer egk_bench-only", ["Content-Type"] = "application/json" }
end

function request()
  number = number + 1
  if ids then return wrk.format("GET", "/candidates/" .. ids[number % #ids + 1], headers) end
  local name = prefix .. "-" .. number
  if keyed then headers["Idempotency-Key"] = name end
  return wrk.format("POST", "/candidates", headers, '{"connection":"startexam-main","externalId":"' .. name ..
    '","name":{"givenName":"Ines","familyName":"Costa"},"email":"' .. name .. '@example.com"}')
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\nRESULT {"requests":%d,"seconds":%.6f,"p50":%d,"p99":%d,"failed":%d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
