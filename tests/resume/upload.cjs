// One upload with tus-js-client, as its users write it.  The only argument is JSON:
//   file      what to send
//   options   of the client
//   storage   a file for the addresses of uploads that may be resumed
//   stopAt    abort when so many bytes are sent, and end
//   asStream  send the file as a stream of which neither length nor place is known
// Each line that it prints is JSON: one per progress, and at the end what became of it.
const fs = require('node:fs')
const tus = require('tus-js-client')

const { file, options, storage, stopAt, asStream } = JSON.parse(process.argv[2])
const tell = (what) => fs.writeSync(1, JSON.stringify(what) + '\n')

let source = fs.createReadStream(file)
if (asStream) source = source.pipe(new (require('node:stream').PassThrough)())

const upload = new tus.Upload(source, {
  ...options,
  urlStorage: storage ? new tus.FileUrlStorage(storage) : null,
  storeFingerprintForResuming: Boolean(storage),
  onProgress: (sent) => {
    tell({ sent })
    if (stopAt !== undefined && sent >= stopAt) upload.abort().then(() => process.exit(0))
  },
  onSuccess: () => tell({ url: upload.url }),
  onError: (error) => {
    tell({ error: String(error) })
    process.exitCode = 1
  },
})

async function main() {
  const previous = storage ? await upload.findPreviousUploads() : []
  if (previous.length) {
    tell({ resumed: previous.length })
    upload.resumeFromPreviousUpload(previous[0])
  }
  upload.start()
}
main()
